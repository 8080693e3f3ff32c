"""coredis, which pipelines what several callers send over one connection."""

import os

import uvloop
from coredis import Redis

from bench.load import KEY, VALUE, print_gets_a_second


async def main() -> None:
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        await redis.set(KEY, VALUE)
        await print_gets_a_second(redis.get)


if __name__ == "__main__":
    uvloop.run(main())
