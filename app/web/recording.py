"""In development: what each request asked of Redis and of the database, for its Server-Timing and for a page."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

MOST_REQUESTS = 50
# Of one request: a page that shows them stays readable, and memory bounded.
MOST_CALLS = 200
LONGEST_TEXT = 1000
# Their commands name a script, then how many keys follow.
_SCRIPTS = frozenset({"EVALSHA", "EVAL", "EVALSHA_RO", "FCALL"})

App = Callable[[Any, Any, Any], Awaitable[None]]


class Calls:
    """Those of one backend. `seconds`: how long at least one of them was open."""

    def __init__(self) -> None:
        self.made: list[tuple[str, float]] = []
        self.amount = 0
        self.seconds = 0.0
        self._open = 0
        self._since = 0.0

    def begin(self, text: str) -> Callable[[], None]:
        """Returns what is to be called at its end."""
        began = time.perf_counter()
        if not self._open:
            self._since = began
        self._open += 1
        self.amount += 1

        def end() -> None:
            now = time.perf_counter()
            self._open -= 1
            if not self._open:
                self.seconds += now - self._since
            if len(self.made) < MOST_CALLS:
                self.made.append((text[:LONGEST_TEXT], (now - began) * 1000))

        return end


class RecordedRequest:
    def __init__(self, method: str, path: str) -> None:
        self.at = datetime.now(UTC)
        self.method = method
        self.path = path[:LONGEST_TEXT]
        self.status = 0
        self.redis = Calls()
        self.sql = Calls()
        self.total_ms = 0.0
        self._began = time.perf_counter()

    def answered(self, status: int) -> bytes:
        """The value of Server-Timing (W3C Server Timing): milliseconds until the first byte."""
        self.status = status
        self.total_ms = (time.perf_counter() - self._began) * 1000
        parts = [
            f'{name};dur={calls.seconds * 1000:.1f};desc="{calls.amount}"'
            for name, calls in (("redis", self.redis), ("sql", self.sql))
        ]
        return ", ".join([*parts, f"total;dur={self.total_ms:.1f}"]).encode()


class Recorder:
    """The last MOST_REQUESTS requests, the newest first. What runs outside a request is not recorded."""

    def __init__(self, *, skips: tuple[str, ...]) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=MOST_REQUESTS)
        self._skips = skips
        self._current: ContextVar[RecordedRequest | None] = ContextVar("recorded_request", default=None)

    def around_requests(self, app: App) -> App:
        """Add Server-Timing to each response, and record the request unless its path begins as one of `skips`."""

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            request = RecordedRequest(scope["method"], scope["path"])
            token = self._current.set(request)

            async def answer(message: Any) -> None:
                if message["type"] == "http.response.start":
                    timing = (b"server-timing", request.answered(message["status"]))
                    message = {**message, "headers": [*message["headers"], timing]}
                    if not request.path.startswith(self._skips):
                        self.requests.appendleft(request)
                await send(message)

            try:
                await app(scope, receive, answer)
            finally:
                self._current.reset(token)

        return recorded

    def observe_command(self, args: Sequence[Any]) -> Callable[[], None] | None:
        request = self._current.get()
        return request.redis.begin(_shown(args)) if request else None

    def observe_statements(self, engine: AsyncEngine) -> None:
        def begin(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
            request = self._current.get()
            context.quartet_ended = request.sql.begin(statement) if request else None

        def end(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
            if context.quartet_ended:
                context.quartet_ended()

        def fail(failure: Any) -> None:
            if ended := getattr(failure.execution_context, "quartet_ended", None):
                ended()

        event.listen(engine.sync_engine, "before_cursor_execute", begin)
        event.listen(engine.sync_engine, "after_cursor_execute", end)
        event.listen(engine.sync_engine, "handle_error", fail)


def _shown(args: Sequence[Any]) -> str:
    """The command and its first key: values may be secrets."""
    name = str(args[0])
    keys = args[3:4] if name in _SCRIPTS else args[1:2]
    return " ".join([name, *(key.decode() if isinstance(key, bytes) else str(key) for key in keys)])
