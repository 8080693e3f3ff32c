"""Quartet's @memoize: tags as versions, one compute in all processes."""

import os
from dataclasses import dataclass
from typing import Any

import uvloop

from app.kit.cache.cache import Cache
from app.kit.cache.memoize import memoize
from app.kit.client.connect import connect
from app.kit.keys import Keys
from bench.cached_calls import RECORDS, TTL_SECONDS, print_pages


@dataclass(frozen=True)
class Services:
    cache: Cache


@memoize(ttl_seconds=TTL_SECONDS)
async def untagged(services: Services, number: int) -> list[dict[str, Any]]:
    return RECORDS


@memoize(ttl_seconds=TTL_SECONDS, tags=lambda number: ["pages", f"page:{number}"])
async def tagged(services: Services, number: int) -> list[dict[str, Any]]:
    return RECORDS


async def main() -> None:
    redis = connect(os.environ["REDIS_URL"], name="bench", timeout_seconds=5)
    services = Services(Cache(redis, Keys(f"bench{os.getpid()}")))
    await print_pages(lambda number: untagged(services, number), lambda number: tagged(services, number))
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
