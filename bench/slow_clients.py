"""How long other requests wait while 2,000 heads and 200 bodies trickle in and 500 clients read nothing."""

import asyncio
import os
import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.rounds import Figures, report
from tests.commands import serving
from tests.serving.slow_clients import slow_clients, times_of_others

HEADS, BODIES, STREAMS = 2000, 200, 500
REQUESTS = 2000
# Longer than a round takes.
LIMITS = {"HEADER_TIMEOUT_SECONDS": "120", "SEND_TIMEOUT_SECONDS": "120", "MAX_CONNECTIONS_PER_ADDRESS": "10000"}
# Of one core, in a second: the server has answered what the unread clients asked, as far as they take it.
QUIET_SHARE = 0.4


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
        with serving(settings, Path(folder), "-m", "app.cli", "serve") as (process, port):
            await times_of_others(port, REQUESTS)
            idle = _figures(await times_of_others(port, REQUESTS))
            async with slow_clients(port, heads=HEADS, bodies=BODIES, streams=STREAMS):
                await _settled(process.pid)
                beside = _figures(await times_of_others(port, REQUESTS))
                process.kill()
    return {"idle": idle, "beside slow clients": beside}


async def _settled(pid: int) -> None:
    """Until the server only waits for the slow clients. Before, it answers thousands of pipelined requests: a load."""
    used = 1.0
    while used > QUIET_SHARE:
        before = _cpu_seconds(pid)
        await asyncio.sleep(1)
        used = _cpu_seconds(pid) - before


def _cpu_seconds(pid: int) -> float:
    """Of user and system together (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _figures(times: list[float]) -> Figures:
    return {
        "median, ms": times[len(times) // 2] * 1e3,
        "99th percentile, ms": times[len(times) * 99 // 100] * 1e3,
    }
