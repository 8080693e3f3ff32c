"""How long a client may take for what it has to send, and to read. A request costs it nothing: it only looks on.

Hypercorn 0.18 has `read_timeout` alone, which would end event streams, and nothing against a client that does not read.
"""

from dataclasses import dataclass

from app.serving.connection import Connection
from app.serving.limits import Limits

# How long a client may take to close its half, when all that was sent to it has left.
LINGER_SECONDS = 2.0


@dataclass(slots=True)
class State:
    """What a connection does, and since when. `waited`: of this, the time in which the client had the turn."""

    doing: tuple[str, int]
    since: float
    received: int
    unsent: int
    waited: float = 0.0


class Clock:
    """Ends what is overdue. A limit is kept to within `interval_seconds`, at which `overdue` is to be called."""

    interval_seconds = 1.0

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._states: dict[Connection, State] = {}

    def forget(self, connection: Connection) -> None:
        self._states.pop(connection, None)

    def overdue(self, connection: Connection, now: float) -> str | None:
        """Why the connection was ended now, or None."""
        doing = _doing(connection)
        state = self._states.get(connection)
        if state is None or state.doing != doing:
            self._states[connection] = State(doing, now, connection.received_bytes, _unsent(connection))
            return None
        what, number = doing
        if what == "nothing":
            return None
        if what in ("closing", "unread"):
            return self._unread(connection, state, now)
        if what == "body":
            return self._slow_body(connection, state)
        is_first = what == "head" or number == 0
        if now - state.since < (self._limits.header_seconds if is_first else self._limits.idle_seconds):
            return None
        connection.expire()
        if what == "head":
            return "slow head"
        return "no request" if number == 0 else "idle"

    def _unread(self, connection: Connection, state: State, now: float) -> str | None:
        """Of a connection that closes, too: what was written before may still be on its way."""
        unsent = _unsent(connection)
        if unsent < state.unsent:
            state.since = now
        state.unsent = unsent
        if now - state.since < (self._limits.send_seconds if unsent else LINGER_SECONDS):
            return None
        connection.abort()
        return "unread response" if unsent else "slow to close"

    def _slow_body(self, connection: Connection, state: State) -> str | None:
        """The time that the application takes for what has come is not the client's."""
        if connection.is_waiting:
            state.waited += self.interval_seconds
        earned = (connection.received_bytes - state.received) / self._limits.body_bytes_per_second
        if state.waited < self._limits.header_seconds + earned:
            return None
        connection.expire()
        return "slow body"


def _doing(connection: Connection) -> tuple[str, int]:
    """With the number of the request, so that the next one's time is its own."""
    if connection.is_ending:
        return "closing", 0
    if not connection.is_writable:
        return "unread", 0
    return connection.awaits, connection.protocol.keep_alive_requests


def _unsent(connection: Connection) -> int:
    return connection.transport.get_write_buffer_size()
