"""Rate limits: checks a second beside other limiters, and among a million keys beside none."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

from redis.asyncio import Redis

from app.kit.keys import Keys
from bench.rounds import Side, report, run_rounds
from tests.services import RedisServer

KEYS = 1_000_000


def main(rounds: int) -> None:
    with ExitStack() as stack:
        empty, full = (_server(stack), _server(stack))
        asyncio.run(_fill(full.url))
        ours, peer = "bench.sides.limit_checks", "bench.sides.peer_limits"
        sides = (
            Side("quartet, log", ours, {"REDIS_URL": empty.url, "ALGORITHM": "log"}),
            Side("quartet, log, 1,000,000 keys", ours, {"REDIS_URL": full.url, "ALGORITHM": "log"}),
            Side("quartet, counter", ours, {"REDIS_URL": empty.url, "ALGORITHM": "counter"}),
            Side("quartet, gcra", ours, {"REDIS_URL": empty.url, "ALGORITHM": "gcra"}),
            Side("limits, moving window", peer, {"REDIS_URL": empty.url, "STRATEGY": "moving-window"}, peer=True),
            Side("limits, fixed window", peer, {"REDIS_URL": empty.url, "STRATEGY": "fixed-window"}, peer=True),
        )
        report("limits", run_rounds(sides, rounds=rounds))


def _server(stack: ExitStack) -> RedisServer:
    server = RedisServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    stack.callback(server.stop)
    return server.start()


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
