"""Attempt: how long one attempt may take, and may be silent; a wait for a slot is not its own time."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimedOut(Exception):
    """The attempt took longer, or was silent for longer, than its task allows."""


class Attempt:
    """asyncio.timeout() whose own expiry (TimedOut) differs from a TimeoutError that the task raises."""

    __slots__ = ("_beat", "_end", "_heartbeat_seconds", "_seconds", "_timeout")

    def __init__(self, seconds: float | None, *, heartbeat_seconds: float | None = None) -> None:
        self._seconds = seconds
        self._heartbeat_seconds = heartbeat_seconds

    async def __aenter__(self) -> "Attempt":
        self._beat = asyncio.get_running_loop().time()
        self._end = math.inf if self._seconds is None else self._beat + self._seconds
        self._timeout = asyncio.timeout_at(self._deadline())
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError as late:
            if asyncio.get_running_loop().time() >= self._end:
                raise TimedOut(f"after {self._seconds} s") from late
            raise TimedOut(f"no heartbeat for {self._heartbeat_seconds} s") from late

    def beat(self) -> None:
        """The attempt is alive. Call it from the loop's thread."""
        self._beat = asyncio.get_running_loop().time()
        if self._heartbeat_seconds is not None and not self._timeout.expired():
            self._timeout.reschedule(self._deadline())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time within is not the attempt's."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            self._beat = loop.time()
            self._end += self._beat - began
            self._timeout.reschedule(self._deadline())

    def _deadline(self) -> float | None:
        silent = math.inf if self._heartbeat_seconds is None else self._beat + self._heartbeat_seconds
        deadline = min(self._end, silent)
        return None if deadline == math.inf else deadline
