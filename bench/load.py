"""Callers that repeat a call for a second. Needs no package: peers import it in an environment of their own."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping

SECONDS = 1.0

# What one caller does again and again; it gets the number of the caller.
Call = Callable[[int], Awaitable[object]]


async def print_rates(calls: Mapping[str, tuple[Call, int]]) -> None:
    """Print, as JSON, how many of each figure's calls are done in a second by so many callers at once."""
    print(json.dumps({figure: await _rate(call, callers) for figure, (call, callers) in calls.items()}))


async def print_cost(figure: str, call: Call, *, callers: int) -> None:
    """Print, as JSON, the CPU time of this process in µs a call, for calls by so many callers at once."""
    began = time.process_time()
    done, _ = await _repeat(call, callers)
    print(json.dumps({figure: (time.process_time() - began) / done * 1e6}))


async def _rate(call: Call, callers: int) -> float:
    done, seconds = await _repeat(call, callers)
    return done / seconds


async def _repeat(call: Call, callers: int) -> tuple[int, float]:
    """The number of calls done, and the seconds that they took."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    done = 0

    async def repeat(number: int) -> None:
        nonlocal done
        while loop.time() < end:
            await call(number)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(repeat(number) for number in range(callers)))
    return done, time.perf_counter() - began
