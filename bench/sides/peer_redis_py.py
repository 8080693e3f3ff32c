"""redis-py's own asynchronous client."""

import os

import uvloop
from redis.asyncio import Redis

from bench.load import KEY, VALUE, print_gets_a_second


async def main() -> None:
    redis = Redis.from_url(os.environ["REDIS_URL"])
    await redis.set(KEY, VALUE)
    await print_gets_a_second(redis.get)
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
