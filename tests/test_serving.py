"""How serving begins and ends, in processes as they are started."""

import asyncio
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.commands import environment, serving
from tests.readme import ROOT, terminal
from tests.services import free_port
from tests.waiting import eventually

END_SECONDS = 2.0
# Where only that it ends is asked, on a loaded machine.
LONGEST_END_SECONDS = 30.0
CTRL_C = "\x03"
# A program's own pseudo-terminal, whose keys come from standard input. What a shell starts in its background, such as
# these tests, may ignore SIGINT, and what it starts would inherit that.
IN_A_TERMINAL = "import pty, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); pty.spawn(sys.argv[1:])"
VENV = Path(sys.prefix).relative_to(ROOT) if Path(sys.prefix).is_relative_to(ROOT) else Path(sys.prefix)


@pytest.fixture
def migrated(embedded: dict[str, str], sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    """The same, with the schema in place and no data."""
    shutil.copy(sqlite_template, tmp_path / "walk.db")
    return embedded


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


@pytest.mark.parametrize("is_ready", [False, True], ids=["while it starts", "while it serves"])
async def test_ctrl_c_ends_make_run_quietly(embedded: dict[str, str], is_ready: bool) -> None:
    """In a terminal Ctrl-C reaches make as well as the server."""
    port = free_port()
    bound = environment(embedded | {"BIND": f"127.0.0.1:{port}"})
    # What runs the tests serves as well; -o keeps make from installing into it.
    make = ["make", "run", f"VENV={VENV}", "-o", f"{VENV}/requirements.installed"]
    async with terminal(sys.executable, "-c", IN_A_TERMINAL, *make, environment=bound) as screen:
        printed = await screen.until("Quartet listens on")
        if is_ready:
            await eventually(lambda: is_listening(port))
            async with event_stream(port):
                pass
        screen.start(CTRL_C)
        printed += await screen.rest(seconds=LONGEST_END_SECONDS)
    assert "demo user" in printed
    assert "***" not in printed
    assert "Traceback" not in printed


async def test_an_interrupt_while_a_callback_of_the_interpreter_runs_is_not_lost() -> None:
    program = """if True:
        import os, signal, time, weakref
        from app.cli.running import end_at_interrupt
        end_at_interrupt()
        class Thing: pass
        thing = Thing()
        callback = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        time.sleep(60)
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(LONGEST_END_SECONDS):
        _, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
