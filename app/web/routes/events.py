"""GET /api/v1/events streams what is published on channels; POST publishes, for admins."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint, Response
from quart_schema import document_querystring, document_response, tag_blueprint, validate_request

from app.errors import Forbidden, Invalid, TooLarge
from app.kit.events.event import EventTooLarge, validate_topic
from app.principal import Principal
from app.web.context import connection, resources
from app.web.identity.auth import current_principal, current_principal_or_none, require
from app.web.limits.declare import exempt
from app.web.sse import event_stream, last_event_id

BROADCAST = "broadcast"
# Types whose meaning the service itself defines.
RESERVED_TYPES = frozenset({"resync", "user_online", "user_offline", "new_message"})

blueprint = Blueprint("events", __name__, url_prefix="/api/v1/events")
tag_blueprint(blueprint, ["events"])


class StreamQuery(BaseModel):
    """The channels (or, for admins, patterns) to subscribe to, and the id of the last event received."""

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
    """A stream of server-sent events. Without `channel`: broadcast, and the caller's own user channel."""
    return await event_stream(requested_topics(), last_event_id=last_event_id())


@blueprint.post("")
@require("session", "api_key", "cookie", roles=["admin"])
@validate_request(NewEvent)
@document_response(Published, 202)
async def publish(data: NewEvent) -> tuple[dict[str, str], int]:
    """Publish one event."""
    if data.type in RESERVED_TYPES:
        raise Invalid([{"loc": ["type"], "msg": "this type is the service's own"}])
    try:
        return {"id": await resources().publisher.publish(data.channel, data.type, data.data)}, 202
    except EventTooLarge as error:
        raise TooLarge(f"Not published: {error}.") from error


def requested_topics() -> list[str]:
    """The topics of the query, without any the default ones. Invalid, Unauthorized or Forbidden for one of them."""
    principal = current_principal_or_none()
    own = [f"user:{principal.user_id}"] if principal else []
    topics = connection().args.getlist("channel") or [BROADCAST, *own]
    for topic in topics:
        _authorize(topic, principal)
    return topics


def _authorize(topic: str, principal: Principal | None) -> None:
    """Everyone may read the broadcast, a user their own channel, an admin every channel and pattern."""
    try:
        validate_topic(topic)
    except ValueError as error:
        raise Invalid([{"loc": ["channel"], "msg": str(error)}]) from error
    if topic == BROADCAST:
        return
    reader = principal or current_principal()
    if not reader.is_admin and topic != f"user:{reader.user_id}":
        raise Forbidden("This channel is not yours.")
