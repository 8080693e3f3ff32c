"""Quartet's limiter, the algorithm in ALGORITHM; three limits are one script, all or nothing."""

import os
from typing import cast

import uvloop

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.limit import Algorithm, Limit
from app.kit.limits.limiter import RateLimiter
from bench.checks import AMOUNT, PERIODS, print_checks


async def main() -> None:
    redis = connect(os.environ["REDIS_URL"], name="bench", timeout_seconds=5)
    # What an earlier round has counted is not in the way.
    limiter = RateLimiter(redis, Keys(f"bench{os.getpid()}"))
    algorithm = cast(Algorithm, os.environ["ALGORITHM"])
    limits = [Limit.parse(f"{AMOUNT}/{period}", name=period, algorithm=algorithm) for period in PERIODS]
    await print_checks(lambda number, subject: limiter.check([(limit, subject) for limit in limits[:number]]))
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
