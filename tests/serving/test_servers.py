"""The same application under each server: the tests that use one, and what Granian does at its start and its stop."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.commands import ROOT, quartet, serving
from tests.services import free_port

SERVED = [
    "tests/domain/test_events_api.py",
    "tests/domain/test_hostile_requests.py",
    "tests/web/routes/test_event_socket.py",
    "tests/web/test_sse.py",
    "tests/clients/test_event_streams.py",
]


@pytest.mark.long
@pytest.mark.parametrize("server", ["granian", "plain"])
def test_the_tests_with_a_server_hold_on_the_others(server: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SERVED]
    done = subprocess.run(
        command, env={**os.environ, "TEST_SERVER": server}, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-5000:]


async def test_granian_serves_and_its_stop_ends_streams_first(embedded: dict[str, str], tmp_path: Path) -> None:
    command = ("-m", "app.cli", "serve", "--server", "granian")
    with serving(embedded | {"DRAIN_SECONDS": "0.2"}, tmp_path, *command) as (process, port):
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{url}/health/live")
            assert (answer.status_code, answer.headers["server"]) == (200, "granian")
            async with client.stream("GET", f"{url}/api/v1/events") as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
        assert await asyncio.to_thread(process.wait, 30) == 0


@pytest.mark.parametrize(
    "given",
    [
        {"BIND": "fd://3"},
        {"WORKER_MAX_REQUESTS": "10"},
        {"WORKERS": "2", "REDIS_URL": "redis://127.0.0.1:1"},
    ],
)
def test_what_granian_cannot_do_is_refused_by_name(tmp_path: Path, given: dict[str, str]) -> None:
    done = quartet(tmp_path, "serve", **{"SERVER": "granian", "BIND": f"127.0.0.1:{free_port()}", **given})
    assert done.returncode == 1
    assert f"{next(iter(given))}" in done.stderr
    assert "Traceback" not in done.stderr
