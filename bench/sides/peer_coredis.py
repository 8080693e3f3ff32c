"""coredis, which pipelines what several callers send over one connection."""

import os

import uvloop
from coredis import Redis

from bench.gets import KEY, VALUE, print_gets


async def main() -> None:
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        await redis.set(KEY, VALUE)
        await print_gets(redis.get)


if __name__ == "__main__":
    uvloop.run(main())
