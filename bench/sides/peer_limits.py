"""limits, which Flask-Limiter and slowapi build on: the strategy in STRATEGY. Three limits are three calls.

A call says only whether there is room; what the headers of an answer need would be a call more for each limit.
"""

import os

import uvloop
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import STRATEGIES

from bench.checks import AMOUNT, print_checks


async def main() -> None:
    url = os.environ["REDIS_URL"]
    storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=f"limits{os.getpid()}")
    strategy = STRATEGIES[os.environ["STRATEGY"]](storage)
    items: list[RateLimitItem] = [
        kind(AMOUNT) for kind in (RateLimitItemPerMinute, RateLimitItemPerHour, RateLimitItemPerDay)
    ]

    async def check(number: int, subject: str) -> bool:
        for item in items[:number]:
            if not await strategy.hit(item, subject):
                return False
        return True

    await print_checks(check)


if __name__ == "__main__":
    uvloop.run(main())
