"""The latency of requests while the consumer in the same process works at full load, and while it has no tasks."""

import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import SERVING, Side, redis_server, report, run_rounds

# More than a consumer takes while a round lasts.
BACKLOG = 250_000


def main(rounds: int) -> None:
    with redis_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        upgrade(database_url)
        environ = {**SERVING, "REDIS_URL": redis_url, "DATABASE_URL": database_url, "LOG_LEVEL": "error"}
        sides = [
            Side("no tasks", "bench.sides.tasks_web", environ | {"COUNT": "0"}),
            Side("tasks at full load", "bench.sides.tasks_web", environ | {"COUNT": str(BACKLOG)}),
        ]
        report("tasks_web", run_rounds(sides, rounds=rounds), costs=("ms a request, median", "ms a request, p99"))
