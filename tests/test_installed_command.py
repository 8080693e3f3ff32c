"""The project installed as `make run` installs it, and `make dev`, in a folder with a space in its name."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.commands import ROOT, environment
from tests.services import end, free_port, wait_until_listening
from tests.waiting import eventually


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the project with an environment whose packages are those of this one, except for the project itself."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "README.md", "LICENSE", "hypercorn.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    base = {"base": str(folder / ".venv"), "platbase": str(folder / ".venv")}
    (Path(sysconfig.get_path("purelib", vars=base)) / "tests.pth").write_text(sysconfig.get_path("purelib"))
    install = "install --quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check --ignore-installed"
    command = [".venv/bin/python", "-m", "pip", *install.split(), "-e", "."]
    subprocess.run(command, cwd=folder, env=as_a_user(), check=True)
    return folder


def as_a_user(**settings: str) -> dict[str, str]:
    """An environment in which `app` is found where it is installed."""
    return {name: value for name, value in environment(settings).items() if name != "PYTHONPATH"}


def test_the_command_is_called_as_the_readme_says(installed: Path) -> None:
    command = ".venv/bin/quartet"
    assert f"{command} settings" in (ROOT / "README.md").read_text()
    (installed / ".env").write_text("WORKERS=7\nREDIS_URL=redis://127.0.0.1:1\n")
    done = subprocess.run([command, "settings"], cwd=installed, env=as_a_user(), capture_output=True, text=True)
    assert re.search(r"^WORKERS +7 +\.env$", done.stdout, re.MULTILINE), done.stderr


@pytest.fixture
def developing(installed: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """`make dev`, its port, and the file of what it prints."""
    port, printed = free_port(), installed.parent / "printed"
    command = ["make", "dev", "VENV=.venv", "-o", ".venv/requirements-dev.installed"]
    settings = as_a_user(BIND=f"127.0.0.1:{port}", DRAIN_SECONDS="0")
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=installed,
            env=settings,
            stdout=output,
            stderr=output,
            process_group=0,
            # A shell's background jobs ignore SIGINT, and so would this one where the tests run in such a job.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until_listening(port, process)
            yield process, port, printed
        finally:
            end(process)


def is_watched(folder: Path) -> bool:
    """Whether a process watches the folder by inotify (proc_pid_fdinfo(5))."""
    watch = f" ino:{folder.stat().st_ino:x} "
    for entry in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with suppress(OSError):
            if watch in entry.read_text():
                return True
    return False


async def test_make_dev_serves_again_after_a_change(
    developing: tuple[subprocess.Popen[bytes], int, Path], installed: Path
) -> None:
    process, port, printed = developing

    def starts() -> int:
        return printed.read_text().count("Quartet listens on")

    def has_started(times: int) -> bool:
        return starts() == times

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(1)
        if sys.platform == "linux":
            # The server is started before the folder is watched, and a change between the two would be lost.
            await eventually(lambda: is_watched(installed / "app"), seconds=20)
        with (installed / "app" / "errors.py").open("a") as module:
            module.write("\n")
        await eventually(lambda: starts() == 2, seconds=20)
    await eventually(listens, seconds=20)
    # The file of settings is made later, and saved as many editors do: by renaming. What is no source changes nothing.
    (installed / "README.md").write_text("changed")
    for number in (3, 4):
        (installed / ".env.saved").write_text(f"DRAIN_SECONDS=0\nMAX_STREAMS={number}\n")
        (installed / ".env.saved").rename(installed / ".env")
        await eventually(partial(has_started, number), seconds=20)
        await eventually(listens, seconds=20)
    # In a terminal Ctrl-C reaches every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    await eventually(lambda: process.poll() is not None, seconds=30)
    await eventually(lambda: not listens(), seconds=30)
    text = printed.read_text()
    assert "SIGKILL" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("given", "folder"), [({}, ".venv"), ({"PYTHON": ""}, ".venv"), ({"PYTHON": sys.executable}, ".venv-{}.{}")]
)
@pytest.mark.parametrize("in_environment", [True, False], ids=["environment", "argument"])
def test_an_empty_python_is_as_none(given: dict[str, str], folder: str, in_environment: bool) -> None:
    arguments = [] if in_environment else [f"{name}={value}" for name, value in given.items()]
    # What an outer make was told goes on to an inner one by MAKEFLAGS.
    outer = {"PYTHON", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}
    environ = {name: value for name, value in os.environ.items() if name not in outer} | (
        given if in_environment else {}
    )
    command = ["make", "--dry-run", "--always-make", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert f"exec {folder.format(*sys.version_info)}/bin/python -m app.cli run" in done.stdout


def test_both_environments_are_made_by_the_same_rule() -> None:
    def rule(target: str) -> str:
        command = ["make", "--dry-run", "--always-make", "VENV=.venv", target]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    service, bench = rule(".venv/requirements.installed"), rule("bench/.venv/requirements.installed")
    assert "-m venv --clear bench/.venv" in bench
    assert (
        service.replace(".venv", "bench/.venv")
        .replace("requirements.lock", "bench/requirements.lock")
        .replace("bench/requirements.lock .\n", "bench/requirements.lock \n")
        == bench
    )
