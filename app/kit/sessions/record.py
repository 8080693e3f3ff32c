"""SessionRecord: one session as read from Redis; its id, and what its user is shown of it."""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from app.kit.keys import digest

Channel = Literal["cookie", "header"]
CHANNELS: tuple[Channel, ...] = ("cookie", "header")

# Bucket and secret. 4,096 buckets spread the sessions over a cluster's slots; the secret has 256 bits.
_ID = re.compile(r"([0-9a-f]{3})\.[A-Za-z0-9_-]{43}", re.ASCII)


def new_id(bucket: str) -> str:
    """A new session's id, its secret."""
    return f"{bucket}.{secrets.token_urlsafe(32)}"


def bucket_for(user_id: int | None) -> str:
    """Three hexadecimal digits: the same for all sessions of a user, random for a visitor's."""
    return digest(f"user:{user_id}")[:3] if user_id is not None else secrets.token_hex(2)[:3]


def bucket_of(session_id: str) -> str | None:
    """The bucket of a well-formed id; None for any other text."""
    found = _ID.fullmatch(session_id)
    return found[1] if found else None


@dataclass(slots=True)
class SessionRecord:
    """One session as read. `id` is its secret; times are epoch seconds by Redis' clock.

    `data` may be changed in place; `stored` is what Redis held of it, encoded.
    """

    id: str = field(repr=False)
    channel: Channel
    user_id: int | None
    created_at: float
    last_activity: float
    expires_at: float
    metadata: dict[str, str] = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    stored: dict[str, bytes] = field(repr=False)

    @property
    def bucket(self) -> str:
        return self.id[:3]

    @property
    def public_id(self) -> str:
        """The id by which its user is shown the session: a digest of `id`, which is the secret."""
        return digest(self.id)

    def idle_seconds(self) -> float:
        """The distance of this process' clock from the last activity, as seconds of 0 or more.

        A clock that is behind Redis' thus costs a few calls more, and not the session.
        """
        return abs(time.time() - self.last_activity)


def ended_record(session_id: str) -> SessionRecord:
    """A visitor's session of which nothing is known but its well-formed id, because there is none any more."""
    return SessionRecord(session_id, "cookie", None, 0, 0, 0, {}, {}, {})


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a user is shown of a session. Times are epoch seconds by Redis' clock."""

    public_id: str
    created_at: float
    last_activity: float
    ip: str
    user_agent: str
