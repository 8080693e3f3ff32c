"""What the tests of the cache share: counted telemetry, a Redis that is down, a value that takes time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app.kit.cache.cache import Cache
from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from tests.services import free_port


class Counts(NoTelemetry):
    """Adds up counters by name, whatever their labels."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.total[name] += int(amount)


class Source:
    """Something to compute: counts its runs, and each run waits until it is let go."""

    def __init__(self, value: Any = "value", *, waits: bool = False) -> None:
        self.value = value
        self.runs = 0
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        if not waits:
            self.gate.set()

    async def __call__(self) -> Any:
        self.runs += 1
        value = self.value
        self.started.set()
        await self.gate.wait()
        return value


@asynccontextmanager
async def cache_on_nothing(keys: Keys, telemetry: Counts) -> AsyncIterator[Cache]:
    """A cache whose Redis is down."""
    redis = connect(f"redis://127.0.0.1:{free_port()}", name="test", timeout_seconds=0.05)
    yield Cache(redis, keys, telemetry=telemetry)
    await redis.aclose()
