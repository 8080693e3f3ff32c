"""Real servers for the tests: each on its own free loopback port, in its own folder, ended by its own process id."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def binary(name: str) -> str:
    """The path of a server's program. Missing: the test is skipped, or fails where REQUIRE_SERVICES=1 is set."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, POSTGRES_FOLDERS)]))
    if found:
        return found
    message = f"{name} is not installed (`make services` installs it)"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(message)
    pytest.skip(message)


# Below the range from which the kernel takes ports for outgoing connections (32768 on, ip(7)): no client takes the port
# of a server that is restarted, nor that of a cluster node's bus, 10,000 above. Processes that test at
# the same time begin at places of their own.
_PORTS = range(10_000, 22_000)
_ports = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """A port that nothing listens on, and that this process has not handed out for a long time."""
    for number in _ports:
        port = _PORTS[number % len(_PORTS)]
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def wait_until_listening(port: int, process: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port} after {seconds} s")
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes], *, with_signal: int = signal.SIGTERM) -> None:
    """End a process that the tests started, and wait for it. A stopped one (SIGSTOP) is continued first."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(with_signal)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RedisServer:
    """A redis-server that a test may kill, stop and start again on the same port and folder."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.program = binary("redis-server")
        self.folder = folder
        self.port = port or free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen([self.program, *arguments, *self.options], stdout=subprocess.DEVNULL)
        wait_until_listening(self.port, self.process)
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        end(self.process, with_signal=signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)


class PostgresServer:
    """A PostgreSQL of its own, with an empty database, that a test may stop and start again on the same port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="quartet-pg-"))
        self.port = free_port()
        # PostgreSQL refuses to run as root: where the tests do, its own user runs it.
        root = os.geteuid() == 0
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
        if root:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run(binary("initdb"), "-D", self.folder / "data", "-U", "quartet", "-A", "trust", "--no-sync")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://quartet@127.0.0.1:{self.port}/quartet"

    def start(self) -> "PostgresServer":
        address = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)]
        self.process = subprocess.Popen(
            [*self._as_user, binary("postgres"), "-D", str(self.folder / "data"), *address, "-F"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )
        wait_until_listening(self.port, self.process)
        return self

    def create_database(self) -> "PostgresServer":
        """The port listens a moment before the server accepts sessions."""
        deadline = time.monotonic() + 20
        command = [binary("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "quartet", "quartet"]
        while subprocess.run(command, capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL accepts no session")
            time.sleep(0.05)
        return self

    def stop(self, *, with_signal: int = signal.SIGINT) -> None:
        """SIGINT ends the sessions, SIGQUIT all at once, as a crash does."""
        if self.process is not None:
            end(self.process, with_signal=with_signal)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: str | Path) -> None:
        subprocess.run([*self._as_user, *command], check=True, capture_output=True, cwd=self.folder)


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL, as the URL of an empty database."""
    server = PostgresServer()
    try:
        yield server.start().create_database().url
    finally:
        server.close()
