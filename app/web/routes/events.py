"""GET /api/v1/events streams what is published on channels; POST publishes, for admins."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint, Response
from quart_schema import document_querystring, document_response, tag_blueprint, validate_request

from app.errors import Forbidden, Invalid, TooLarge
from app.kit.events.event import BROADCAST, RESERVED_TYPES, EventTooLarge, user_channel, validate_topic
from app.kit.events.grant import Grant
from app.kit.events.presence import PRESENCE
from app.principal import Principal
from app.web.answers import answers
from app.web.context import connection, resources
from app.web.idempotency import idempotent
from app.web.identity.auth import current_principal, current_principal_or_none, require_role
from app.web.identity.grants import current_grant
from app.web.limits.declare import exempt
from app.web.sse import event_stream, last_event_id

# Types of the service's own, which only its code publishes.
OWN_TYPES = RESERVED_TYPES | {"user_online", "user_offline", "new_message"}

blueprint = Blueprint("events", __name__, url_prefix="/api/v1/events")
tag_blueprint(blueprint, ["events"])


class StreamQuery(BaseModel):
    """The channels (or, for admins, patterns) to subscribe to, and the id of the last event received."""

    channel: list[Annotated[str, Field(pattern=r"^[a-z0-9:_*-]{1,64}$")]] = []
    last_event_id: str = ""


class NewEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    channel: Annotated[str, Field(pattern=r"^[a-z0-9:_-]{1,64}$")]
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")]
    data: Any = None


class Published(BaseModel):
    id: str


@blueprint.get("")
@answers(200, content_type="text/event-stream", description="The events, until either side ends the stream.")
@answers(204, description="No more events will come.")
@answers(401, 403, 422, 503)
@document_querystring(StreamQuery)
@exempt("a stream lasts for hours, and a 429 would stop an EventSource for good; the number of streams is capped")
async def stream() -> Response:
    """A stream of server-sent events. Without `channel`: broadcast, and the caller's own user channel."""
    topics = requested_topics()
    return await event_stream(topics, last_event_id=last_event_id(), grant=grant_of(topics))


@blueprint.post("")
@idempotent
@require_role("admin")
@validate_request(NewEvent)
@document_response(Published, 202)
async def publish(data: NewEvent) -> tuple[dict[str, str], int]:
    """Publish one event."""
    if data.type in OWN_TYPES:
        raise Invalid([{"loc": ["type"], "msg": "this type is the service's own"}])
    try:
        return {"id": await resources().publisher.publish(data.channel, data.type, data.data)}, 202
    except EventTooLarge as error:
        raise TooLarge(f"Not published: {error}.") from error


def requested_topics() -> list[str]:
    """The topics of the query, without any the default ones. Invalid, Unauthorized or Forbidden for one of them."""
    principal = current_principal_or_none()
    own = [user_channel(principal.user_id)] if principal else []
    topics = connection().args.getlist("channel") or [BROADCAST, *own]
    for topic in topics:
        _authorize(topic, principal)
    return topics


def grant_of(topics: Sequence[str]) -> Grant:
    """The grant of the current request for a stream of the topics, which it may read now."""
    return current_grant(lambda reader: all(may_read(topic, reader) for topic in topics))


def may_read(topic: str, reader: Principal | None) -> bool:
    """Everyone may read the broadcast; users the presence, and their own channel; admins every channel and pattern."""
    if topic == BROADCAST:
        return True
    if reader is None:
        return False
    return reader.is_admin or topic in (PRESENCE, user_channel(reader.user_id))


def _authorize(topic: str, reader: Principal | None) -> None:
    try:
        validate_topic(topic)
    except ValueError as error:
        raise Invalid([{"loc": ["channel"], "msg": str(error)}]) from error
    if not may_read(topic, reader):
        # Without a credential, or with a bad one, it is a 401.
        current_principal()
        raise Forbidden("This channel is not yours.")
