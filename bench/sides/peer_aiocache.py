"""aiocache, which knows no tags; the serializer in SERIALIZER. Its own timer around each call is off: it is slower."""

import os
from urllib.parse import urlsplit

import uvloop
from aiocache import RedisCache, cached
from aiocache.serializers import JsonSerializer, PickleSerializer

from bench.cached_calls import RECORDS, TTL_SECONDS, print_pages

url = urlsplit(os.environ["REDIS_URL"])


@cached(
    ttl=TTL_SECONDS,
    cache=RedisCache,
    serializer={"json": JsonSerializer, "pickle": PickleSerializer}[os.environ["SERIALIZER"]](),
    timeout=0,
    endpoint=url.hostname,
    port=url.port,
    namespace=f"aiocache{os.getpid()}",
    pool_max_size=64,
)
async def untagged(number: int) -> object:
    return RECORDS


async def main() -> None:
    await print_pages(untagged, None)
    await untagged.cache.close()


if __name__ == "__main__":
    uvloop.run(main())
