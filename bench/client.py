"""The automatic pipeline beside other asynchronous clients: GETs a second by 64 callers, and by one alone."""

import tempfile
from pathlib import Path

from bench.rounds import Side, report, run_rounds
from tests.services import RedisServer

SIDES = (
    Side("quartet", "bench.sides.redis_gets"),
    Side("redis-py", "bench.sides.peer_redis_py", peer=True),
    Side("coredis", "bench.sides.peer_coredis", peer=True),
    Side("valkey-glide", "bench.sides.peer_glide", peer=True),
)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        try:
            report("client", run_rounds(SIDES, {"REDIS_URL": server.url}, rounds=rounds))
        finally:
            server.stop()
