"""Wakes the writers of streams, a few in each turn of the event loop."""

import asyncio
from collections import deque

from app.kit.aio import Flag

# A writer that is woken writes in the same turn of the loop, for about 35 µs.
WAKES_A_TURN = 100


class Waker:
    """A queue of writers to be woken, so that an event for all streams stops the loop for a few ms at a time.

    What is queued for a stream until its writer's turn is joined into one write.
    """

    def __init__(self) -> None:
        self._waiting: deque[Flag] = deque()
        self._all_woken = asyncio.Event()
        self._all_woken.set()

    def wake(self, flag: Flag) -> None:
        """Set the flag that a writer waits for, after those of earlier calls."""
        if not self._waiting:
            self._all_woken.clear()
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._waiting.append(flag)

    async def all_woken(self) -> None:
        """Wait until all writers that wake() was called for have been woken, and have written."""
        await self._all_woken.wait()

    def _take_turn(self) -> None:
        for _ in range(min(WAKES_A_TURN, len(self._waiting))):
            self._waiting.popleft().set()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_turn)
        else:
            # Tasks run in the order in which they are woken: those that wait for this run after the writers.
            self._all_woken.set()
