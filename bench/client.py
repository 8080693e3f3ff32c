"""The automatic pipeline beside other asynchronous clients: GETs a second by 64 callers, and by one alone."""

import tempfile
from pathlib import Path

from bench.rounds import Side, report, run_rounds
from tests.services import RedisServer


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        environ = {"REDIS_URL": server.url}
        sides = (
            Side("quartet", "bench.sides.redis_gets", environ),
            Side("redis-py", "bench.sides.peer_redis_py", environ, peer=True),
            Side("coredis", "bench.sides.peer_coredis", environ, peer=True),
            Side("valkey-glide", "bench.sides.peer_glide", environ, peer=True),
        )
        try:
            report("client", run_rounds(sides, rounds=rounds))
        finally:
            server.stop()
