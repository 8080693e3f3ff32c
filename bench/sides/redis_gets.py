"""The automatic pipeline's GETs, the server in REDIS_URL."""

import os

import uvloop

from app.kit.client.connect import connect
from bench.gets import KEY, VALUE, print_gets


async def main() -> None:
    redis = connect(os.environ["REDIS_URL"], name="bench", timeout_seconds=5)
    await redis.set(KEY, VALUE)
    await print_gets(redis.get)
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
