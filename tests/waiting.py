"""Tests wait for conditions, never for a fixed time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, seconds: float = 30) -> T: ...


@overload
async def eventually(condition: Callable[[], T], *, seconds: float = 30) -> T: ...


async def eventually(condition: Callable[[], T | Awaitable[T]], *, seconds: float = 30) -> T:
    """The first true value of `condition`, asked again and again. AssertionError when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        await asyncio.sleep(0.005)
