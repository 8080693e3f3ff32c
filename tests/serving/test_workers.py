"""Several workers under one supervisor, in processes of their own, with a real Redis."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.commands import quartet, serving
from tests.services import RedisServer, free_port
from tests.waiting import eventually

SERVE = ("-m", "app.cli", "serve")
END_SECONDS = 30


@pytest.fixture
def settings(sqlite_template: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    redis = RedisServer(tmp_path).start()
    yield {
        "REDIS_URL": redis.url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "WORKERS": "2",
        "DRAIN_SECONDS": "0.2",
    }
    redis.stop()


def workers(supervisor: int) -> set[int]:
    """The process ids of its children that are Python's."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(supervisor)], capture_output=True, text=True)
    return {int(pid) for pid in found.stdout.split()}


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def ask(port: int) -> int:
    """The status of a request on a connection of its own."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code


async def all_ready(supervisor: int, port: int, *, besides: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
    """The workers, when two of them accept connections that are none of `besides`."""

    async def ready() -> set[int]:
        seen = workers(supervisor) - besides
        return seen if len(seen) == 2 and all(_has_answered(pid) for pid in seen) else set()

    await eventually(lambda: ask(port), seconds=END_SECONDS)
    return await eventually(ready, seconds=END_SECONDS)


def _has_answered(pid: int) -> bool:
    """Whether it has imported the application: it then has connections, and so more descriptors than at its start."""
    return Path(f"/proc/{pid}").exists() and len(os.listdir(f"/proc/{pid}/fd")) > 8


async def test_a_worker_that_is_killed_is_started_again_and_the_other_serves(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with serving(settings, tmp_path, *SERVE) as (process, port):
        before = await all_ready(process.pid, port)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            assert await ask(port) == 200
        await eventually(lambda: len(workers(process.pid) - {victim}) == 2, seconds=END_SECONDS)
        after = workers(process.pid)
        assert max(before) in after
        await all_ready(process.pid, port)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, END_SECONDS) == 0
    assert not alive(after)


async def test_hup_replaces_every_worker_and_no_request_fails(settings: dict[str, str], tmp_path: Path) -> None:
    with serving(settings, tmp_path, *SERVE) as (process, port):
        before = await all_ready(process.pid, port)
        stop, statuses = asyncio.Event(), list[int]()

        async def keep_asking(client: httpx.AsyncClient) -> None:
            while not stop.is_set():
                statuses.append((await client.get(f"http://127.0.0.1:{port}/health/live")).status_code)

        async with httpx.AsyncClient() as kept:
            asking = [asyncio.create_task(keep_asking(kept)) for _ in range(3)]
            process.send_signal(signal.SIGHUP)
            await eventually(
                lambda: len(workers(process.pid)) == 2 and not workers(process.pid) & before, seconds=END_SECONDS
            )
            stop.set()
            await asyncio.gather(*asking)
        assert set(statuses) == {200}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, END_SECONDS) == 0


async def test_metrics_count_over_all_workers_and_over_their_successors(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with serving(settings, tmp_path, *SERVE) as (process, port):
        await all_ready(process.pid, port)
        for _ in range(20):
            await ask(port)
        before = await counted(port)
        assert before >= 20
        os.kill(min(workers(process.pid)), signal.SIGKILL)
        for _ in range(10):
            await ask(port)
        assert await counted(port) == before + 10


async def counted(port: int) -> float:
    """The answers of /health/live that the metrics know of, from whichever worker."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.findall(r'^quartet_http_requests_total{[^}]*route="/health/live"[^}]*} (\S+)', text, re.MULTILINE)
    return sum(map(float, found))


async def test_workers_are_recycled_after_their_requests_and_none_fails(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with serving(settings | {"WORKER_MAX_REQUESTS": "30"}, tmp_path, *SERVE) as (process, port):
        before = await all_ready(process.pid, port)

        async def replaced() -> bool:
            assert await ask(port) == 200
            return not workers(process.pid) & before

        assert await eventually(replaced, seconds=2 * END_SECONDS)


async def test_a_stop_with_an_open_stream_drains_and_is_zero(settings: dict[str, str], tmp_path: Path) -> None:
    with serving(settings, tmp_path, *SERVE) as (process, port):
        await all_ready(process.pid, port)
        async with httpx.AsyncClient() as client, client.stream("GET", f"http://127.0.0.1:{port}/api/v1/events") as got:
            lines = got.aiter_lines()
            await anext(lines)
            process.send_signal(signal.SIGTERM)
            async for _ in lines:
                pass
        assert await asyncio.to_thread(process.wait, END_SECONDS) == 0


def test_a_worker_that_dies_at_its_start_three_times_ends_all_with_an_error(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Here by a module beside the settings, in place of one that the application needs."""
    (tmp_path / "aiosqlite.py").write_text("raise SystemExit(7)")
    done = quartet(tmp_path, "serve", BIND=f"127.0.0.1:{free_port()}", **settings)
    assert done.returncode == 1
    assert "3 times in a row" in done.stderr


async def test_a_second_signal_kills_what_does_not_drain(settings: dict[str, str], tmp_path: Path) -> None:
    with serving(settings | {"READINESS_DELAY_SECONDS": "300"}, tmp_path, *SERVE) as (process, port):
        running = await all_ready(process.pid, port)
        process.send_signal(signal.SIGTERM)

        async def is_unready() -> bool:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 503

        await eventually(is_unready)
        assert await ask(port) == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, END_SECONDS) == 1
    assert not alive(running)
