"""A process of its own for the tests of the cache: many callers ask for one key. Prints what they got, as JSON.

The compute counts its runs in Redis, then waits until the key GO is there.
"""

import asyncio
import json
import sys

from app.kit.cache.cache import Cache
from app.kit.client.connect import connect
from app.kit.keys import Keys
from tests.kit.cache.cache_support import Counts
from tests.waiting import eventually

READY, RUNS, GO = "ready", "runs", "go"


async def main(url: str, namespace: str, *, lease_seconds: float, callers: int, value: str) -> None:
    redis = connect(url, name="test", timeout_seconds=5)
    counts = Counts()
    cache = Cache(redis, Keys(namespace), telemetry=counts, lease_seconds=lease_seconds)

    async def compute() -> str:
        await redis.incr(f"{namespace}:{RUNS}")
        await eventually(lambda: redis.exists(f"{namespace}:{GO}"), seconds=60)
        return value

    await redis.incr(f"{namespace}:{READY}")
    asked = (cache.get_or_compute("key", compute, ttl_seconds=60, tags=["t"]) for _ in range(callers))
    values = await asyncio.gather(*asked)
    sys.stdout.write(json.dumps({"values": values, "counts": counts.total}))
    await redis.aclose()


if __name__ == "__main__":
    url, namespace, lease_seconds, callers, value = sys.argv[1:]
    asyncio.run(main(url, namespace, lease_seconds=float(lease_seconds), callers=int(callers), value=value))
