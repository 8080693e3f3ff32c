"""A flood of logins: how late the event loop is meanwhile, and what memory it takes.

The clients are coroutines of the same loop, so that their work counts too: the figures are upper bounds.
"""

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from quart import Quart

from app.factory import create_app
from app.migrations import upgrade
from app.settings import load_settings

LOGINS = 200
PROBE_SECONDS = 0.005


def main(rounds: int) -> None:
    """Print one line a round."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'bench.db'}"
        upgrade(url)
        settings = {"DATABASE_URL": url, "TRUSTED_PROXIES": "127.0.0.1", "CONSUMER": "0", "LOG_LEVEL": "error"}
        for _ in range(rounds):
            uvloop.run(_flood(create_app(load_settings(settings))))


async def _flood(app: Quart) -> None:
    async with app.test_app():
        await _log_in(app, 0)
        before = _peak_mib()
        lags: list[float] = []
        probe = asyncio.create_task(_measure(lags))
        began = time.perf_counter()
        statuses = await asyncio.gather(*(_log_in(app, number) for number in range(LOGINS)))
        seconds = time.perf_counter() - began
        probe.cancel()
    lags.sort()
    median, late, latest = (lags[int(len(lags) * share)] for share in (0.5, 0.99, 0.9999))
    refused = statuses.count(503)
    print(
        f"{LOGINS} logins in {seconds:.1f} s, {refused} refused; loop lag p50 {median:.1f} ms, p99 {late:.1f} ms, "
        f"most {latest:.1f} ms; memory +{_peak_mib() - before} MiB"
    )


async def _log_in(app: Quart, number: int) -> int:
    """Each from an address and for an account of its own, so that no limit refuses it."""
    answer = await app.test_client(use_cookies=False).post(
        "/api/v1/login",
        json={"email": f"nobody{number}@example.org", "password": "wrong"},
        headers={"X-Forwarded-For": f"198.51.100.{number}"},
    )
    return answer.status_code


async def _measure(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(PROBE_SECONDS)
        lags.append((time.perf_counter() - began - PROBE_SECONDS) * 1000)


def _peak_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)
