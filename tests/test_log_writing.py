"""A reader of the log that is slow, or gone, stops nothing; and nothing is lost where it reads."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.log_writing import WritingHandler
from tests.commands import environment
from tests.services import end, free_port, wait_until_listening
from tests.waiting import eventually

REQUESTS = 100


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Of the least size, so that few lines fill it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def logger_of(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("own")
    logger.addHandler(handler)
    return logger


def read_all(reader: int) -> list[str]:
    return b"".join(iter(lambda: os.read(reader, 1 << 16), b"")).decode().splitlines()


def test_lines_come_in_order_from_many_threads_and_wait_for_a_slow_reader(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = WritingHandler(writer, most_waiting_bytes=1 << 30)
    logger = logger_of(handler)

    def log(number: int) -> None:
        for line in range(500):
            logger.info("%d %d %s", number, line, "x" * (line % 7) * 1000)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    reading = threading.Thread(target=lambda: found.extend(read_all(reader)))
    found: list[str] = []
    reading.start()
    for thread in threads:
        thread.join()
    handler.close()
    os.close(writer)
    reading.join()
    lines = [line.split(" ", 2) for line in found]
    for number in range(4):
        assert [int(line[1]) for line in lines if int(line[0]) == number] == list(range(500))
    assert all(line[2] == "x" * (int(line[1]) % 7) * 1000 for line in lines)


def test_what_has_no_room_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = WritingHandler(writer, most_waiting_bytes=20_000)
    logger = logger_of(handler)
    for number in range(1000):
        logger.info("%03d %s", number, "x" * 95)
    # One that is longer than all the room is written where nothing else waits.
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.extend(read_all(reader)))
    reading.start()
    handler.flush()
    logger.info("y" * 50_000)
    handler.close()
    os.close(writer)
    reading.join()
    assert found[-1] == "y" * 50_000
    kept = [line for line in found if line.endswith("x")]
    assert 150 < len(kept) < 400
    # The pipe takes some while others are dropped, so that there may be several such lines.
    dropped = [
        int(line.split()[0])
        for line in found
        if line.endswith("log lines were dropped: standard error is read too slowly")
    ]
    assert sum(dropped) == 1000 - len(kept)
    assert len(kept) + len(dropped) + 1 == len(found)


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = WritingHandler(writer)
    for _ in range(1000):
        logger_of(handler).info("x" * 1000)
    handler.close()


async def test_a_pipe_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    handler = WritingHandler(writer)
    for number in range(100):
        logger_of(handler).info("%03d %s", number, "x" * 1000)
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.extend(read_all(reader)))
    reading.start()
    handler.close()
    os.close(writer)
    reading.join()
    assert [int(line[:3]) for line in found] == list(range(100))


def test_a_forked_process_logs_too(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = WritingHandler(writer)
    logger = logger_of(handler)
    logger.info("before")
    handler.flush()
    child = os.fork()
    if not child:
        logger.info("child")
        handler.flush()
        os._exit(0)
    os.waitpid(child, 0)
    handler.close()
    os.close(writer)
    assert read_all(reader) == ["before", "child"]


@pytest.mark.parametrize("production", [True, False])
async def test_a_service_whose_log_nobody_reads_answers_and_stops(
    pipe: tuple[int, int], tmp_path: Path, production: bool
) -> None:
    reader, writer = pipe
    port = free_port()
    settings = {"LOG_LEVEL": "info", "BIND": f"127.0.0.1:{port}"}
    if production:
        settings |= {"ENVIRONMENT": "production", "SECRET_KEY": "k" * 32, "METRICS_TOKEN": "t" * 16}
        settings |= {"ALLOW_EMBEDDED_REDIS": "1", "PUBLIC_URL": "https://a.example", "ALLOWED_HOSTS": "127.0.0.1"}
    command = [sys.executable, "-m", "app.cli", "serve"]
    process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
        command, cwd=tmp_path, env=environment(settings), stdout=writer, stderr=writer
    )
    os.close(writer)
    try:
        wait_until_listening(port, process)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(REQUESTS):
                assert (await client.get("/health/live")).status_code == 200
            first = os.read(reader, 1 << 16).decode()
            assert first
            # It has waited for its reader.
            await eventually(lambda: _read_until(reader, "/health/live"))
            os.close(reader)
            for _ in range(REQUESTS):
                assert (await client.get("/health/live")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        end(process)


def _read_until(reader: int, text: str) -> bool:
    return text in os.read(reader, 1 << 16).decode()


def test_standard_streams_that_are_closed_or_full(tmp_path: Path) -> None:
    """Also: the last lines before the end are written."""
    for redirection, shown in (("<&- 2>&-", ""), ("2>/dev/full", ""), ("", "did you mean LOG_LEVEL")):
        done = subprocess.run(
            ["sh", "-c", f"exec '{sys.executable}' -m app.cli settings {redirection}"],
            cwd=tmp_path,
            env=environment({"LOG_LEVL": "info"}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (redirection, done)
        assert "LOG_LEVEL" in done.stdout
        assert shown in done.stderr


def test_a_command_whose_standard_streams_are_closed_opens_no_connection_in_their_place(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "shell"]
    source = "import os; print([os.readlink(f'/proc/self/fd/{number}') for number in (1, 2)])\n"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        cwd=tmp_path,
        env=environment({}),
        input=source,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "'/dev/null']" in done.stdout) == (0, True), done
