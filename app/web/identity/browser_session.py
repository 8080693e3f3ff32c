"""The browser's session as a handler sees it: quart.session over a record of our SessionStore."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from quart import session
from quart.sessions import SessionMixin
from werkzeug.datastructures import Headers

from app.errors import BadRequest, Unavailable
from app.kit.sessions.record import SessionRecord, Unstorable
from app.kit.sessions.store import SessionStore
from app.web.context import resources

logger = logging.getLogger(__name__)
CREDENTIAL_HEADERS = ("X-Session-ID", "Authorization", "API-Key")

SessionState = Literal["open", "detached", "down"]


def has_header_credential(headers: Headers) -> bool:
    """A request with one is judged by it alone: its cookie is not read."""
    return any(name in headers for name in CREDENTIAL_HEADERS)


class BrowserSession(SessionMixin):
    """What a handler has as `quart.session`. `used`: the answer depends on it.

    While Redis is down every access raises Unavailable: an answer that needs the session cannot be given, and nobody
    is taken for a visitor. Detached, on a request that is judged without its cookie, it is empty and refuses writes.
    """

    def __init__(self, record: SessionRecord | None = None, *, state: SessionState = "open") -> None:
        self.record = record
        self.state = state
        self.used = False
        self._data: dict[str, Any] = record.data if record else {}
        self._cookie_id = record.id if record else None
        self._ended_id: str | None = None

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._write()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def clear(self) -> None:
        """End the session, as a logout does. What is set afterwards goes into a new one, under a new id."""
        self._write()
        self._end()

    @property
    def modified(self) -> bool:
        """Whether there is anything to save. Nested changes count."""
        if self.record is None:
            return bool(self._data) or self._ended_id is not None
        return any(self.record.changes())

    @modified.setter
    def modified(self, value: bool) -> None:
        """Flask's way of announcing a nested change. It is found without."""

    async def sign_in(
        self, store: SessionStore, user_id: int, *, metadata: Mapping[str, str], epoch: str | None
    ) -> SessionRecord:
        """Move the data into a new session of the user's, under a new id. SessionsEnded: see SessionStore.create."""
        data, old = self._write(), self.record.id if self.record else self._ended_id
        record = await store.create(
            data, channel="cookie", user_id=user_id, metadata=metadata, replaces=old, epoch=epoch
        )
        self.record, self._data, self._ended_id = record, record.data, None
        return record

    async def save(self, store: SessionStore, *, can_send_cookie: bool) -> None:
        """Write what has changed, in one round trip; nothing when nothing has."""
        if self.record is not None and self.record.user_id is None and self.record.stored and not self._data:
            # As in Flask: a visitor's session that was emptied is none.
            self._end()
        try:
            if self.record is not None:
                changed, removed = self.record.changes()
                if changed or removed:
                    # False where another request has ended the session, or given it a new id: this one then leaves
                    # the cookie alone, too, for it may be the other's by now.
                    await store.save(self.record, changed=changed, removed=removed)
            elif self._data and can_send_cookie:
                self.record = await store.create(self._data, channel="cookie", replaces=self._ended_id)
            elif self._ended_id is not None:
                await store.delete(self._ended_id)
        except Unstorable as error:
            # Fails open, as far as it goes: the answer stands, the session stays as it was, or ends as was asked.
            logger.error("a session was not saved: %s", error)
            resources().telemetry.count("session_unstorable")
            if self._ended_id is not None:
                await store.delete(self._ended_id)

    def cookie(self) -> str | None:
        """The value to send after save(): an id, "" to delete the cookie, None to leave it alone."""
        if self.record is None:
            return None if self._ended_id is None else ""
        return None if self.record.id == self._cookie_id else self.record.id

    def _read(self) -> dict[str, Any]:
        self.used = True
        if self.state == "down":
            raise Unavailable("The session cannot be read now.")
        return self._data

    def _write(self) -> dict[str, Any]:
        data = self._read()
        if self.state == "detached":
            raise BadRequest("This request has no browser session.")
        return data

    def _end(self) -> None:
        if self.record is not None:
            self._ended_id = self.record.id
        self.record, self._data = None, {}


def current_browser_session() -> BrowserSession | None:
    """The running request's, where it has one; looking at it does not count as a use."""
    found = session._get_current_object()  # type: ignore[attr-defined]
    return found if isinstance(found, BrowserSession) else None
