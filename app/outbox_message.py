"""What a row of the outbox holds, as JSON: an event, a task or an invalidation."""

import msgspec

from app.kit.tasks.model import Call


class Publication(msgspec.Struct, frozen=True, tag="publication"):
    channel: str
    payload: msgspec.Raw
    event_id: str


class Submission(msgspec.Struct, frozen=True, tag="task"):
    call: Call
    queue: str = "default"


class Invalidation(msgspec.Struct, frozen=True, tag="invalidation"):
    tags: tuple[str, ...]


Message = Publication | Submission | Invalidation
decode_message = msgspec.json.Decoder(Message).decode
