"""ThreadSlots: runs functions in threads, of which each keeps its slot until its function returns."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from app.kit.tasks.attempt import Attempt


class ThreadSlots:
    """A thread cannot be ended: one whose attempt has ended before it is abandoned, and keeps its slot.

    The threads are daemons, so that an abandoned one does not keep the process alive.
    """

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)

    async def run(self, attempt: Attempt, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result, or what it raises. The wait for a slot is not the attempt's time."""
        with attempt.paused():
            await self._slots.acquire()
        try:
            ended = self._start(function, *args)
        except BaseException:
            self._slots.release()
            raise
        value, error = await ended
        if error is not None:
            raise error
        return value

    def _start(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[tuple[Any, BaseException | None]]":
        loop, context = asyncio.get_running_loop(), copy_context()
        future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def end(value: Any, error: BaseException | None) -> None:
            self._slots.release()
            if not future.done():
                future.set_result((value, error))

        def work() -> None:
            value, raised = None, None
            try:
                value = context.run(function, *args)
            except BaseException as error:
                # It is raised where the result is awaited; a thread has no other place for it.
                raised = error
            # The loop is closed where the thread outlives the worker.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end, value, raised)

        threading.Thread(target=work, name="task", daemon=True).start()
        return future
