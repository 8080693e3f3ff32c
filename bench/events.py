"""Event streams: connecting, memory, and deliveries to 2,000 clients, and to 10,000, beside peers.

Quart serves bare streams here, on the same Hypercorn, with a queue a client and nothing else: no Redis, no ids, no
resume. sse-starlette and Litestar Channels run on uvicorn, in memory too.
"""

import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import SERVING, Side, redis_server, report, run_rounds


def main(rounds: int) -> None:
    _measure("events", streams=2_000, rounds=rounds)


def main_of_10_000(rounds: int) -> None:
    _measure("events_10000", streams=10_000, rounds=rounds)


def _measure(name: str, *, streams: int, rounds: int) -> None:
    with redis_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        # The lifespan opens a database; a stream reads none.
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        upgrade(database_url)
        environ = {**SERVING, "REDIS_URL": redis_url, "DATABASE_URL": database_url, "CONSUMER": "0"}
        environ["LOG_LEVEL"] = "warning"
        # All streams come from one machine.
        environ["MAX_CONNECTIONS_PER_ADDRESS"] = "1000000"
        peers, load = "bench.sides.peer_events", {"STREAMS": str(streams)}
        sides = (
            Side("quartet", "bench.sides.events", {**environ, **load}),
            Side("quart, bare stream", peers, {"SERVER": "quart", **load}, peer=True),
            Side("sse-starlette", peers, {"SERVER": "starlette", **load}, peer=True),
            Side("litestar channels", peers, {"SERVER": "litestar", **load}, peer=True),
        )
        found = run_rounds(sides, rounds=rounds)
        report(name, found, costs=found[sides[0].name])
