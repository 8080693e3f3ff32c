"""GET /api/v1/presence: who is online."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag_blueprint, validate_querystring

from app.kit.events.presence import MOST_LISTED
from app.web.context import resources
from app.web.identity.auth import require_auth
from app.web.number import PLAIN_DIGITS

blueprint = Blueprint("presence", __name__, url_prefix="/api/v1")
tag_blueprint(blueprint, ["events"])


class PresenceQuery(BaseModel):
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED), PLAIN_DIGITS] = 100


@dataclass(frozen=True, slots=True)
class OnlineUser:
    user_id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OnlineUsers:
    """`online` has those who came last, `total` counts all."""

    online: list[OnlineUser]
    total: int


@blueprint.get("/presence")
@require_auth()
@validate_querystring(PresenceQuery)
@document_response(OnlineUsers)
async def online(query_args: PresenceQuery) -> ResponseReturnValue:
    """The users with an open event stream on any node."""
    total, users = await resources().presence.online(limit=query_args.limit)
    return jsonify(OnlineUsers([OnlineUser(user.user_id, user.since) for user in users], total))
