"""cashews, which knows tags: a set of keys for each."""

import os

import uvloop
from cashews import Cache

from bench.cached_calls import RECORDS, TTL_SECONDS, print_pages

cache = Cache()
cache.setup(os.environ["REDIS_URL"], max_connections=64)
PREFIX = f"cashews{os.getpid()}"


@cache(ttl=TTL_SECONDS, key=PREFIX + ":untagged:{number}")
async def untagged(number: int) -> object:
    return RECORDS


@cache(ttl=TTL_SECONDS, key=PREFIX + ":tagged:{number}", tags=["pages", "page:{number}"])
async def tagged(number: int) -> object:
    return RECORDS


async def main() -> None:
    await print_pages(untagged, tagged)
    await cache.close()


if __name__ == "__main__":
    uvloop.run(main())
