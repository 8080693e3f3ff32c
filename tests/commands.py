"""The `quartet` command in a process of its own, which finds the settings of a test and no others."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import Settings
from app.settings_redis import RedisParts
from tests.command_process import run
from tests.services import end, free_port, wait_until_listening

ROOT = Path(__file__).parent.parent
KNOWN = {name.upper() for cls in (Settings, RedisParts) for name in cls.model_fields}
SECONDS = 60
# It imports the application once, and forks a process for each command: an import takes most of a command's time.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.command_process"])


def environment(settings: dict[str, str]) -> dict[str, str]:
    """This process' environment with these settings instead of its own, in which `app` is found from any folder."""
    others = {name: value for name, value in os.environ.items() if name not in KNOWN}
    return {**others, "PYTHONPATH": str(ROOT), **settings}


def quartet(
    folder: Path, *arguments: str, input: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in `folder`, whose `.env` it reads. `input`: its standard input.

    The process is forked from one that has imported the application; see started() for a new one.
    """
    with tempfile.TemporaryDirectory() as files:
        streams = [Path(files, name) for name in ("in", "out", "err")]
        streams[0].write_text(input or "")
        process = _forks.Process(target=run, args=(folder, environment(settings), streams, arguments))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        out, err = (stream.read_text() for stream in streams[1:])
        return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def started(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """As quartet(), by an interpreter of its own."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(
        command, env=environment(settings), cwd=folder, capture_output=True, text=True, timeout=SECONDS
    )


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
