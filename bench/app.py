"""The ASGI application: CPU time a request, beside a route of plain Quart that gives the same answer."""

import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import Side, redis_server, report, run_rounds
from bench.sides.app_requests import CASES


def main(rounds: int) -> None:
    with redis_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        # The lifespan opens a database; no route that is measured reads it.
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        upgrade(database_url)
        environ = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "CONSUMER": "0"}
        sides = (
            Side("quart, bare route", "bench.sides.quart_requests", {}),
            *(Side(f"quartet, {case}", "bench.sides.app_requests", {**environ, "CASE": case}) for case in CASES),
        )
        report("app", run_rounds(sides, rounds=rounds), costs=("CPU, µs a request",))
