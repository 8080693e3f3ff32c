"""What a row of the outbox holds, as JSON: an event, a task, an invalidation, or credentials that end."""

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


class SessionsEnd(msgspec.Struct, frozen=True, tag="sessions_end"):
    """`keep`: the public id of the session that stays. `call` makes a repeat a no-op."""

    user_id: int
    keep: str | None
    call: str


class CredentialEnd(msgspec.Struct, frozen=True, tag="credential_end"):
    user_id: int
    credential: str | None


Message = Publication | Submission | Invalidation | SessionsEnd | CredentialEnd
decode_message = msgspec.json.Decoder(Message).decode
