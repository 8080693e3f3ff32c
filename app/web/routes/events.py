"""GET /api/v1/events streams what is published on channels; POST publishes, for admins."""

from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint, Response, request
from quart_schema import document_querystring, document_response, tag_blueprint, validate_request

from app.errors import Forbidden, Invalid, TooLarge
from app.kit.events.event import validate_topic
from app.kit.events.publisher import MAX_PAYLOAD_BYTES
from app.principal import Principal
from app.web.context import resources
from app.web.identity.auth import current_principal, current_principal_or_none, require
from app.web.limits.declare import exempt
from app.web.sse import event_stream, last_event_id

BROADCAST = "broadcast"
# Types that only the service itself gives a meaning to.
ENVELOPE_BYTES = 1024  # more than the event's other fields take
RESERVED_TYPES = frozenset({"resync", "user_online", "user_offline", "new_message"})

blueprint = Blueprint("events", __name__, url_prefix="/api/v1/events")
tag_blueprint(blueprint, ["events"])


class StreamQuery(BaseModel):
    """Which channels to subscribe to, and the id of the last event received."""

    channel: list[str] = []
    last_event_id: str = ""


class NewEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    channel: Annotated[str, Field(pattern=r"^[a-z0-9:_-]{1,64}$")]
    type: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    data: Any = None


class Published(BaseModel):
    id: str


@blueprint.get("")
@document_querystring(StreamQuery)
@exempt("a stream lasts for hours, and a 429 would stop an EventSource for good; the number of streams is capped")
async def stream() -> Response:
    """A stream of server-sent events. No channel named: broadcast, and one's own user channel."""
    principal = current_principal_or_none()
    named = request.args.getlist("channel")
    channels = named or [BROADCAST, *([f"user:{principal.user_id}"] if principal else [])]
    for channel in channels:
        _check(channel, principal)
    return await event_stream(channels, last_event_id=last_event_id())


@blueprint.post("")
@require("session", "api_key", "cookie", roles=["admin"])
@validate_request(NewEvent)
@document_response(Published, 202)
async def publish(data: NewEvent) -> tuple[dict[str, str], int]:
    """Publish one event."""
    if data.type in RESERVED_TYPES:
        raise Invalid([{"loc": ["type"], "msg": "this type is the service's own"}])
    if len(msgspec.json.encode(data.data)) > MAX_PAYLOAD_BYTES - ENVELOPE_BYTES:
        raise TooLarge(f"An event's data has at most {MAX_PAYLOAD_BYTES - ENVELOPE_BYTES} bytes.")
    return {"id": await resources().publisher.publish(data.channel, data.type, data.data)}, 202


def _check(channel: str, principal: Principal | None) -> None:
    """Anyone hears the broadcast, a user what is theirs; everything else, patterns too, is for admins."""
    try:
        validate_topic(channel)
    except ValueError as error:
        raise Invalid([{"loc": ["channel"], "msg": str(error)}]) from error
    if channel == BROADCAST:
        return
    asking = principal or current_principal()
    if not asking.is_admin and channel != f"user:{asking.user_id}":
        raise Forbidden("This channel is not yours.")
