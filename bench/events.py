"""Event streams: connecting, memory, and deliveries to 2,000 clients (STREAMS=10000: so many) beside peers.

Quart serves bare streams here, on the same Hypercorn, with a queue a client and nothing else: no Redis, no ids, no
resume. sse-starlette and Litestar Channels run on uvicorn, in memory too.
"""

import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import Side, redis_server, report, run_rounds


def main(rounds: int) -> None:
    with redis_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        # The lifespan opens a database; a stream reads none.
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        upgrade(database_url)
        environ = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "CONSUMER": "0", "LOG_LEVEL": "warning"}
        # All streams come from one machine.
        environ["MAX_CONNECTIONS_PER_ADDRESS"] = "1000000"
        peers = "bench.sides.peer_events"
        sides = (
            Side("quartet", "bench.sides.events", environ),
            Side("quart, bare stream", peers, {"SERVER": "quart"}, peer=True),
            Side("sse-starlette", peers, {"SERVER": "starlette"}, peer=True),
            Side("litestar channels", peers, {"SERVER": "litestar"}, peer=True),
        )
        found = run_rounds(sides, rounds=rounds)
        report("events", found, costs=found[sides[0].name])
