"""README's walk, taken by its own commands on a served process, and how serving ends."""

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commands import environment
from tests.databases import create_postgres
from tests.readme import ROOT, Step, Terminal, terminal, walk
from tests.services import RedisServer, end, free_port, wait_until_listening
from tests.waiting import eventually

END_SECONDS = 2.0
CTRL_C = "\x03"
# A program's own pseudo-terminal, whose keys come from standard input.
IN_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
VENV = Path(sys.prefix).relative_to(ROOT) if Path(sys.prefix).is_relative_to(ROOT) else Path(sys.prefix)
TITLE = "Four instruments, one loop"


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, str]:
    """The settings of a start without any server."""
    return {"REDIS_URL": "memory://", "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'walk.db'}"}


@pytest.fixture
def migrated(embedded: dict[str, str], sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    """The same, with the schema in place and no data."""
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    return embedded


@pytest.fixture(params=["embedded", pytest.param("servers", marks=[pytest.mark.server, pytest.mark.postgres])])
def deployment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each deployment that README names."""
    if request.param == "embedded":
        found: dict[str, str] = request.getfixturevalue("embedded")
        return found
    redis: RedisServer = request.getfixturevalue("redis_server")
    return {
        "REDIS_URL": redis.url,
        "DATABASE_URL": create_postgres(request.getfixturevalue("postgres_url"), template="template1"),
        "NAMESPACE": "walk",
        # The walk is not about a Redis that is slow, which on a busy machine it may be.
        "REDIS_BUDGET_MS": "5000",
    }


@contextmanager
def serving(settings: dict[str, str], folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that serves, in `folder`, and its port. {port} in `command` stands for the port."""
    port = free_port()
    words = [word.format(port=port) for word in command or ("-m", "app.cli", "run")]
    bound = environment(settings | {"BIND": f"127.0.0.1:{port}"})
    process = subprocess.Popen([sys.executable, *words], env=bound, cwd=folder)
    try:
        wait_until_listening(port, process)
        yield process, port
    finally:
        end(process)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def event_stream(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """An event stream that has begun: its head and first bytes have been read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert b"text/event-stream" in head
            await reader.read(1)
        yield reader
    finally:
        writer.close()


def documents(printed: str) -> list[Any]:
    """The JSON documents that commands printed one after another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(printed):
        value, at = decoder.raw_decode(printed, at)
        found.append(value)
        while printed[at : at + 1].isspace():
            at += 1
    return found


async def test_readme_walk(deployment: dict[str, str], tmp_path: Path) -> None:
    with serving(deployment, tmp_path) as (_, port):
        steps = walk(served_at=f"127.0.0.1:{port}")
        assert sorted(steps) == list(range(1, 8))
        async with terminal() as first, terminal() as second:
            await check_account(first, steps[1])
            second.start(steps[2].second)
            await second.until(":")
            await check_write(first, steps[3])
            await second.until("event: article_created")
            await second.until("event: article_processed")
            await check_processed(first, steps[4])
            await check_limit(first, steps[5])
            await check_logout(first, steps[6])


async def check_account(shell: Terminal, step: Step) -> None:
    account, profile = documents(await shell.run(step.first))
    assert (account["email"], account["name"]) == ("ada@example.com", "Ada")
    assert (profile["user_id"], profile["name"]) == (account["id"], "Ada")
    session, key = (await shell.run('echo "$SESSION"; echo "$KEY"')).split()
    assert len(session) >= 43
    assert len(key) >= 43


async def check_write(shell: Terminal, step: Step) -> None:
    before, after = documents(await shell.run(step.first))
    assert TITLE not in [article["title"] for article in before["articles"]]
    assert after["articles"][0]["title"] == TITLE
    assert after["total"] == before["total"] + 1
    assert (await shell.run('echo "$ARTICLE"')).strip() == str(after["articles"][0]["id"])


async def check_processed(shell: Terminal, step: Step) -> None:
    (article,) = documents(await shell.run(step.first))
    assert article["title"] == TITLE
    assert article["summary"]
    assert "quartet" in article["keywords"]


async def check_limit(shell: Terminal, step: Step) -> None:
    printed = await shell.run(step.first)
    assert re.findall(r"^HTTP/1.1 (\d+)", printed, re.MULTILINE) == ["401"] * 5 + ["429"]
    last = printed[printed.rindex("HTTP/1.1 429") :].lower()
    assert 1 <= int(re.search(r"^retry-after: (\d+)", last, re.MULTILINE)[1]) <= 60  # type: ignore[index]
    for header in ("x-ratelimit-limit: 5", "x-ratelimit-remaining: 0", "x-ratelimit-reset: ", "ratelimit-policy: "):
        assert header in last


async def check_logout(shell: Terminal, step: Step) -> None:
    status, _, problem = (await shell.run(step.first)).partition("\n")
    assert status == "204"
    assert json.loads(problem)["status"] == 401


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_the_process_with_an_open_stream(
    migrated: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with serving(migrated, tmp_path, "-m", "app.cli", "serve") as (process, port):
        async with event_stream(port) as stream:
            process.send_signal(number)
            began = time.monotonic()
            async with asyncio.timeout(END_SECONDS):
                await stream.read()
            assert await asyncio.to_thread(process.wait, END_SECONDS) == 0
            assert time.monotonic() - began < END_SECONDS


async def test_plain_hypercorn_serves_and_ends(migrated: dict[str, str], tmp_path: Path) -> None:
    configured = ("-c", str(ROOT / "hypercorn.toml"), "--graceful-timeout", "1", "-b", "127.0.0.1:{port}")
    with serving(migrated, tmp_path, "-m", "hypercorn", *configured, "app.asgi:app") as (process, port):
        async with event_stream(port) as stream:
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(5):
                await stream.read()
        assert await asyncio.to_thread(process.wait, 5) == 0


async def test_ctrl_c_ends_make_run_quietly(embedded: dict[str, str]) -> None:
    """In a terminal Ctrl-C reaches make as well as the server."""
    port = free_port()
    bound = environment(embedded | {"BIND": f"127.0.0.1:{port}"})
    # What runs the tests serves as well; -o keeps make from installing into it.
    make = ["make", "run", f"VENV={VENV}", "-o", f"{VENV}/requirements.installed"]
    async with terminal(sys.executable, "-c", IN_A_TERMINAL, *make, environment=bound) as screen:
        printed = await screen.until("Quartet listens on")
        await eventually(lambda: is_listening(port))
        screen.start(CTRL_C)
        printed += await screen.rest(seconds=END_SECONDS)
    assert "demo user" in printed
    assert "***" not in printed
    assert "Traceback" not in printed
