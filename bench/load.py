"""What each side of a client benchmark is put through: GETs by 64 callers, then by one alone. Needs no package."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

SECONDS = 1.0
CALLERS = (64, 1)
KEY, VALUE = "key", "x" * 100


async def print_gets_a_second(get: Callable[[str], Awaitable[object]]) -> None:
    """Print the figures of one round as JSON."""
    print(json.dumps({f"GETs/s, {callers} callers": await _gets_a_second(get, callers) for callers in CALLERS}))


async def _gets_a_second(get: Callable[[str], Awaitable[object]], callers: int) -> float:
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    done = 0

    async def call() -> None:
        nonlocal done
        while loop.time() < end:
            await get(KEY)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return done / (time.perf_counter() - began)
