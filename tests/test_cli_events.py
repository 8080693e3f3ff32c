"""quartet events, and quartet subscribe."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment, quartet
from tests.services import RedisServer, end

CHANNEL = "user:7"


def start_tail(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "app.cli", "events", "tail", *arguments]
    return subprocess.Popen(command, env=environment(settings), cwd=folder, stdout=subprocess.PIPE)


def read_event(tail: subprocess.Popen[bytes]) -> dict[str, str]:
    """The fields of the next event."""
    assert tail.stdout is not None
    fields = {}
    while line := tail.stdout.readline().decode().strip():
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields


@pytest.mark.server
async def test_what_is_published_is_followed(redis_server: RedisServer, tmp_path: Path) -> None:
    settings = {"REDIS_URL": redis_server.url, "NAMESPACE": "clievents"}

    def publish(channel: str, data: str) -> str:
        done = quartet(tmp_path, "events", "publish", channel, "tick", data, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = await asyncio.to_thread(publish, CHANNEL, "1")
    second = await asyncio.to_thread(publish, CHANNEL, '{"n": 2}')
    # From an id on, so that it does not matter when it begins.
    tail = start_tail(tmp_path, CHANNEL, "broadcast", "--last-event-id", first, **settings)
    try:
        event = await asyncio.to_thread(read_event, tail)
        assert (event["id"], event["event"]) == (second, "tick")
        assert json.loads(event["data"])["data"] == {"n": 2}
        third = await asyncio.to_thread(publish, "broadcast", "null")
        assert (await asyncio.to_thread(read_event, tail))["event"] == "live"
        assert (await asyncio.to_thread(read_event, tail))["id"] == third
        tail.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(tail.wait, 20) == 0
    finally:
        end(tail)
        assert tail.stdout is not None
        tail.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "User", "tick"), "not a channel"),
        (("publish", "broadcast", "open"), "reserved"),
        (("publish", "broadcast", "tick", "{"), "DATA is not JSON"),
        (("tail", "User"), "neither a channel nor a pattern"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = quartet(tmp_path, "events", *arguments, REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("events", "publish", "broadcast", "tick"), ("events", "tail"), ("subscribe",)])
def test_an_embedded_store_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = quartet(tmp_path, *command, REDIS_URL="memory://")
    assert done.returncode == 1
    assert "REDIS_URL is memory://" in done.stderr


def test_a_redis_that_is_down_is_a_line(tmp_path: Path) -> None:
    done = quartet(tmp_path, "events", "publish", "broadcast", "tick", REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
