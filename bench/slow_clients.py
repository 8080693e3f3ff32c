"""How long other requests wait while 2,000 heads and 200 bodies trickle in and 500 clients read nothing."""

import asyncio
import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import Figures, report
from tests.commands import serving
from tests.serving.slow_clients import slow_clients, times_of_others

HEADS, BODIES, STREAMS = 2000, 200, 500
REQUESTS = 500
# Longer than the requests take.
LIMITS = {"HEADER_TIMEOUT_SECONDS": "20", "SEND_TIMEOUT_SECONDS": "20", "MAX_CONNECTIONS_PER_ADDRESS": "10000"}


def main(rounds: int) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for side, figures in asyncio.run(_round()).items():
            for figure, value in figures.items():
                found.setdefault(side, {}).setdefault(figure, []).append(value)
    report("slow_clients", found, costs=("median, ms", "99th percentile, ms"))


async def _round() -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder:
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        await asyncio.to_thread(upgrade, database_url)
        settings = {"REDIS_URL": "memory://", "DATABASE_URL": database_url, "LOG_LEVEL": "warning", **LIMITS}
        with serving(settings, Path(folder), "-m", "app.cli", "serve") as (_, port):
            await times_of_others(port, REQUESTS)
            idle = _figures(await times_of_others(port, REQUESTS))
            async with slow_clients(port, heads=HEADS, bodies=BODIES, streams=STREAMS):
                # All have connected, and what they sent at first has been answered as far as they read.
                await asyncio.sleep(8)
                beside = _figures(await times_of_others(port, REQUESTS))
    return {"idle": idle, "beside slow clients": beside}


def _figures(times: list[float]) -> Figures:
    return {
        "median, ms": times[len(times) // 2] * 1e3,
        "99th percentile, ms": times[len(times) * 99 // 100] * 1e3,
    }
