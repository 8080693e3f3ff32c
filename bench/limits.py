"""Rate limits: checks a second beside other limiters, and among a million keys beside none."""

import asyncio

from redis.asyncio import Redis

from app.kit.keys import Keys
from bench.rounds import Side, redis_server, report, run_rounds

KEYS = 1_000_000


def main(rounds: int) -> None:
    with redis_server() as empty, redis_server() as full:
        asyncio.run(_fill(full))
        ours, peer = "bench.sides.limit_checks", "bench.sides.peer_limits"
        sides = (
            Side("quartet, log", ours, {"REDIS_URL": empty, "ALGORITHM": "log"}),
            Side("quartet, log, 1,000,000 keys", ours, {"REDIS_URL": full, "ALGORITHM": "log"}),
            Side("quartet, counter", ours, {"REDIS_URL": empty, "ALGORITHM": "counter"}),
            Side("quartet, gcra", ours, {"REDIS_URL": empty, "ALGORITHM": "gcra"}),
            Side("limits, moving window", peer, {"REDIS_URL": empty, "STRATEGY": "moving-window"}, peer=True),
            Side("limits, fixed window", peer, {"REDIS_URL": empty, "STRATEGY": "fixed-window"}, peer=True),
        )
        report("limits", run_rounds(sides, rounds=rounds))


async def _fill(url: str) -> None:
    """As many keys of limits as a large service has clients, each with one entry of a log."""
    keys = Keys("full")
    async with Redis.from_url(url) as redis:
        for start in range(0, KEYS, 10_000):
            pipeline = redis.pipeline(transaction=False)
            for number in range(start, start + 10_000):
                key = keys.limit("default", f"{number:032}")
                pipeline.lpush(key, 1_700_000_000_000_000)
                pipeline.expire(key, 86_400)
            await pipeline.execute()
