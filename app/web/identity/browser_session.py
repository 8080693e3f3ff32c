"""The browser's session as a handler sees it: quart.session over a record of our SessionStore."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from quart import session
from quart.sessions import SessionMixin

from app.errors import BadRequest, Conflict, Unavailable
from app.kit.sessions.codec import changed_fields, encode_field
from app.kit.sessions.record import SessionRecord, ended_record
from app.kit.sessions.store import SessionStore
from app.kit.sessions.values import Unstorable
from app.web.context import resources
from app.web.identity.takeover import take_over

SessionState = Literal["open", "detached", "down"]

# Flask's own name for it.
_PERMANENT = "_permanent"
_FLASHES = "_flashes"


class BrowserSession(SessionMixin):
    """What a handler has as `quart.session`: a dict. `used`: the answer depends on it.

    down        Redis did not answer: every access raises Unavailable, so that a user is never treated as a visitor.
    detached    the request is authenticated without its cookie: the session is empty and refuses writes.

    A WebSocket has no response that could carry a cookie (`can_send_cookie`): it changes a session that there is, but
    starts none and renames none.
    """

    def __init__(
        self,
        record: SessionRecord | None = None,
        *,
        state: SessionState = "open",
        can_send_cookie: bool = True,
        ended_ids: Sequence[str] = (),
    ) -> None:
        """`ended_ids`: well-formed ids that the browser has sent, of which none leads to a session."""
        self.record = record
        self.state = state
        self.used = False
        self._can_send_cookie = can_send_cookie
        self._data: dict[str, Any] = record.data if record else {}
        self._cookie = (record.id, self._is_permanent()) if record else None
        self._ended_id: str | None = None
        self._sent_ids = tuple(ended_ids)

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Unstorable: a session cannot hold the value. What it can, app.kit.sessions.values says."""
        data = self._write()
        encode_field(key, value)
        data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._read() | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._read()

    def __ior__(self, other: Any) -> "BrowserSession":  # type: ignore[misc]
        self.update(other)
        return self

    def copy(self) -> dict[str, Any]:
        """A dict, which may be changed without changing the session."""
        return self._read().copy()

    def popitem(self) -> tuple[str, Any]:
        """Remove the field that was set last."""
        return self._write().popitem()

    def clear(self) -> None:
        """End the session, as a logout does. Values set afterwards go into a new one, under a new id."""
        self._write()
        if self.record is not None:
            self._ended_id = self.record.id
        self.record, self._data, self._sent_ids = None, {}, ()

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser; it does by default."""
        self._read()
        return self._is_permanent()

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self[_PERMANENT] = bool(value)

    @property
    def modified(self) -> bool:
        """Whether there is something to save. Nested changes count."""
        if self.record is None:
            return bool(self._data) or self._ended_id is not None
        try:
            return any(changed_fields(self.record))
        except Unstorable:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:
        """Ignored: Flask's way of announcing a nested change, which is detected here."""

    @property
    def is_new(self) -> bool:
        """Whether save() makes a visitor's session where there was none."""
        return self.record is None and bool(self._data) and self._can_send_cookie and self._ended_id is None

    async def regenerate(self) -> bool:
        """Give the session a new id, in Redis and in the browser; its data stays. False: it has ended meanwhile.

        For a visitor's session as for a user's. RuntimeError in a WebSocket.
        """
        self._write()
        self.require_cookie()
        # What is not in Redis yet gets its first id when it is saved.
        return self.record is None or await resources().sessions.rotate(self.record)

    async def sign_in(
        self,
        store: SessionStore,
        user_id: int,
        *,
        metadata: Mapping[str, str],
        epoch: str | None,
        permanent: bool = True,
    ) -> SessionRecord:
        """Move a visitor's data into a new session of the user, under a new id. SessionsEnded: see SessionStore.create.

        What other requests save in the visitor's session until it ends moves too: see take_over(), also for the errors.
        After each the session is as it was. The data of another user's session does not move: it ends with it.
        """
        data, ended_id = self._write().copy(), self._ended_id
        # Of two logins at once the second may find the visitor's session ended.
        olds = [self.record] if self.record else [ended_record(each) for each in self._sent_ids]
        own = {_PERMANENT}.union(*changed_fields(self.record)) if self.record else {_PERMANENT, *data}
        if self.record is not None and self.record.user_id not in (None, user_id):
            data, ended_id, olds = {}, self.record.id, []
        data.pop(_PERMANENT, None)
        if not permanent:
            data[_PERMANENT] = False
        # First: where the login is refused, nothing has changed.
        record = await store.create(data, channel="cookie", user_id=user_id, metadata=metadata, epoch=epoch)
        for old in olds:
            await take_over(store, old, record, own=own)
        if ended_id is not None:
            await store.delete(ended_id)
        self.record, self._data, self._ended_id = record, record.data, None
        return record

    async def save(self, store: SessionStore) -> None:
        """Write the changes in one round trip; none where nothing has changed. Unstorable: nothing was written.

        What has been ended ends in any case. Conflict: nothing was written, because another request has ended the
        session or given it a new id. Then this one does not touch the cookie: the browser may have the new one by now.
        A request that arrives with the old id within a minute after it was renewed begins no session, for the same
        reason.
        """
        try:
            if self.record is not None:
                changed, removed = changed_fields(self.record)
                if changed or removed:
                    saved = await store.save(self.record, changed=changed, removed=removed)
                    # A message that was shown is no loss: it ended with the session.
                    if not saved and (changed or removed != {_FLASHES}):
                        raise _superseded()
            elif self._data and self._can_send_cookie:
                for sent_id in self._sent_ids:
                    if await store.is_superseded(sent_id):
                        raise _superseded()
                self.record = await store.create(self._data, channel="cookie")
        finally:
            if self._ended_id is not None:
                await store.delete(self._ended_id)

    def cookie(self) -> tuple[str, bool] | None:
        """What to send after save(): an id and whether it outlives the browser; an empty id deletes the cookie."""
        if self.record is None:
            return None if self._ended_id is None else ("", False)
        current = (self.record.id, self._is_permanent())
        return None if current == self._cookie else current

    def require_cookie(self) -> None:
        """RuntimeError in a WebSocket."""
        if not self._can_send_cookie:
            raise RuntimeError("a WebSocket cannot send the cookie of a new session id")

    def _is_permanent(self) -> bool:
        return bool(self._data.get(_PERMANENT, True))

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


def _superseded() -> Conflict:
    return Conflict("Another request has ended or renewed the session. Nothing was saved: try again.")


def current_browser_session() -> BrowserSession | None:
    """The current request's session; None where another session interface made it, or none did."""
    # The object itself (documented by Werkzeug): the proxy would look up the request at each access.
    found = session._get_current_object()  # type: ignore[attr-defined]
    return found if isinstance(found, BrowserSession) else None
