"""Ends the waits whose time is over, and drops a connection that has fallen silent."""

import asyncio

from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.client.breaker import Breaker
from app.kit.client.connection import PipelineState
from app.kit.client.pending import Counters

# How often waiting commands are looked at, and a delay of that look from which on the loop itself has stalled.
WATCH_SECONDS = 0.01
STALL_SECONDS = 0.1
# After so long without a byte while a reply is due, the peer has stopped without closing (SIGSTOP, a pulled cable). The
# time doubles with each such break in a row, so that a repeatable script that is slow gets the time that it needs.
SILENCE_SECONDS = 1.0
LONGEST_SILENCE_SECONDS = 8.0


class Watchdog:
    """One look at all deadlines of a pipeline each WATCH_SECONDS, while commands are under way.

    A timer for each command would cost more than the command.
    """

    def __init__(self, state: PipelineState, *, breaker: Breaker, counters: Counters) -> None:
        self._state = state
        self._breaker = breaker
        self._counters = counters
        self._silence_seconds = SILENCE_SECONDS

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._state.busy.wait()
            due = loop.time() + WATCH_SECONDS
            await asyncio.sleep(WATCH_SECONDS)
            late = loop.time() - due
            if late > STALL_SECONDS:
                self._extend(late)
            for _ in range(3):
                await asyncio.sleep(0)  # what is readable is parsed first
            now = loop.time()
            self._expire(now + WATCH_SECONDS)
            self._drop_silent(now + WATCH_SECONDS)
            if not self._state.under_way():
                self._state.busy.clear()

    def _extend(self, late: float) -> None:
        """The loop has stalled, not Redis: no reply could be read in that time, so it counts for no deadline."""
        self._counters.stalls += 1
        if self._state.connection is not None:
            self._state.connection.heard_at += late
        for command in self._state.under_way():
            command.deadline += late

    def _expire(self, now: float) -> None:
        under_way = self._state.under_way()
        expired = [command for command in under_way if command.deadline <= now and not command.future.done()]
        error = None
        for command in expired:
            self._counters.timeouts += 1
            error = RedisTimeoutError("no answer from Redis in time")
            error.__cause__ = command.refused or self._state.error
            command.answer(error)
        connection = self._state.connection
        if connection is None:
            self._state.queue.forget_unwanted()
        if expired and (connection is None or connection.silent_seconds(now) > WATCH_SECONDS):
            self._breaker.failed(error)

    def _drop_silent(self, now: float) -> None:
        connection = self._state.connection
        if connection is None:
            return
        if connection.silent_seconds(now) > self._silence_seconds:
            self._silence_seconds = min(LONGEST_SILENCE_SECONDS, 2 * self._silence_seconds)
            connection.drop()
        elif connection.has_replied:
            self._silence_seconds = SILENCE_SECONDS
