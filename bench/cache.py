"""The cache beside others: calls a second of a decorated function, by 64 callers at once."""

import tempfile
from pathlib import Path

from bench.rounds import Side, report, run_rounds
from tests.services import RedisServer


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        environ = {"REDIS_URL": server.url}
        sides = (
            Side("quartet", "bench.sides.memoized", environ),
            Side("cashews", "bench.sides.peer_cashews", environ, peer=True),
            Side("aiocache", "bench.sides.peer_aiocache", environ, peer=True),
            Side("flask-caching", "bench.sides.peer_flask_caching", environ, peer=True),
        )
        try:
            report("cache", run_rounds(sides, rounds=rounds))
        finally:
            server.stop()
