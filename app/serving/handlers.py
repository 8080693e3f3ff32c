"""The tasks of the application's handlers, and the messages that wait for them.

In place of hypercorn.asyncio.task_group (Hypercorn 0.18), for two of its faults: a connection waits in its TaskGroup
for every task of it, and a full queue keeps `http.disconnect` from a handler that reads nothing (hypercorn #241).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from app.kit.aio import Flag

logger = logging.getLogger(__name__)
# Messages that may wait. A body comes in parts of at most 64 KiB, or what the loop reads at once.
MOST_WAITING = 8

Message = dict[str, Any]
Application = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class ProtocolFlag:
    """What Hypercorn's protocols know as an event, of which each connection has some."""

    __slots__ = ("_flag",)

    def __init__(self) -> None:
        self._flag = Flag()

    async def clear(self) -> None:
        self._flag.clear()

    async def wait(self) -> None:
        await self._flag.wait()

    async def set(self) -> None:
        self._flag.set()

    def is_set(self) -> bool:
        return self._flag.is_set()


class Inbox:
    """Messages for one handler. A message waits for its place, but a disconnect never does."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._changed = Flag()
        self._is_closed = False

    async def put(self, message: Message) -> None:
        if message["type"].endswith(".disconnect"):
            self._is_closed = True
        self._messages.append(message)
        self._changed.set()
        while len(self._messages) > MOST_WAITING and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()

    async def get(self) -> Message:
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.pop(0)
        self._changed.set()
        return message


class Handlers:
    """What Hypercorn's protocols know as their task group: one for all connections of a worker."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def spawn_app(
        self, _app: Any, _config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        inbox = Inbox()
        self.spawn(self._handle, scope, inbox.get, send)
        return inbox.put

    def spawn(self, func: Callable[..., Any], *args: Any) -> None:
        task = asyncio.ensure_future(func(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, *, seconds: float) -> int:
        """Cancel all, and wait for at most `seconds`; the number of those that do not end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if not tasks:
            return 0
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        return len(pending)

    async def _handle(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            # Quart answers its handlers' errors itself: this one is its own or of the ASGI layer.
            logger.exception("the application failed")
        finally:
            # Ends the response; what has none yet is answered 500.
            await send(None)
