"""The Dockerfile: what it says of itself, and what it runs, on a file system that nothing can be written to."""

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url

from app.kit.keys import Keys
from tests.commands import ROOT, environment
from tests.databases import create_postgres
from tests.services import RedisServer, end, free_port, wait_until_listening
from tests.test_wrong_settings import PRODUCTION

UNPRIVILEGED = "10001"
# A mount namespace, in which the whole root is read-only; the user has no right but to read what root may read, where
# the interpreter of a developer lies in root's home.
READ_ONLY = """\
set -e
mount --bind / "$1" && mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && mount -o remount,ro,bind "$1"
shift_root=$1; shift
exec chroot "$shift_root" setpriv --reuid="$1" --regid="$1" --clear-groups --no-new-privs \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search env -C "$2" "${@:3}"
"""


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    begins = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[begins:]


def health_command() -> list[str]:
    [check] = [value for name, value in last_stage() if name == "HEALTHCHECK"]
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


def test_the_image_is_built_in_stages_from_locks_and_runs_unprivileged_without_a_shell() -> None:
    stages = [value for name, value in instructions() if name == "FROM"]
    assert len(stages) == 2
    assert stages[0].endswith(" AS build")
    installs = [value for name, value in instructions() if name == "RUN" and "install" in value and "venv" not in value]
    assert all(".ci/install" in value or "useradd" in value for value in installs)
    assert "--require-hashes" in (ROOT / ".ci/install").read_text()
    last = last_stage()
    names = [name for name, _ in last]
    [user] = [value for name, value in last if name == "USER"]
    assert user not in {"root", "0"}
    assert names.index("USER") > max(number for number, name in enumerate(names) if name in {"RUN", "COPY"})
    # In the form of a list: no shell reads it.
    [command] = [json.loads(value) for name, value in last if name == "CMD"]
    assert command == ["quartet", "serve"]
    assert health_command()[0] == "python"
    assert all(value.startswith("--from=build ") for name, value in last if name == "COPY")


def test_what_the_image_copies_is_there_and_is_sent_to_the_engine() -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in patterns if line.startswith("!")]
    assert "*" in patterns
    copied = [value.split()[:-1] for name, value in instructions() if name == "COPY" and "--from" not in value]
    for source in [each for sources in copied for each in sources]:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent), source


@pytest.fixture
def read_only(tmp_path: Path) -> list[str]:
    """The begin of a command that runs on a read-only root, as a user without rights."""
    if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("a read-only root needs root, unshare and setpriv")
    (mounted := tmp_path / "root").mkdir()
    begin = ["unshare", "--mount", "bash", "-c", READ_ONLY, "read-only", str(mounted), UNPRIVILEGED, str(ROOT)]
    tried = subprocess.run([*begin, "id", "-u"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    assert tried.stdout.strip() == UNPRIVILEGED
    written = subprocess.run([*begin, "touch", "/tmp/x"], capture_output=True, text=True)
    assert "Read-only file system" in written.stderr
    return begin


@pytest.fixture
def served(
    read_only: list[str], redis_server: RedisServer, real_redis: Redis, keys: Keys, postgres_template: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    database = create_postgres(postgres_template, template=str(make_url(postgres_template).database))
    port = free_port()
    settings = PRODUCTION | {
        "REDIS_URL": redis_server.url,
        "DATABASE_URL": database,
        "NAMESPACE": keys.namespace,
        "BIND": f"127.0.0.1:{port}",
    }
    given = environment(settings | {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"})
    process = subprocess.Popen([*read_only, sys.executable, "-m", "app.cli", "serve"], env=given)
    try:
        wait_until_listening(port, process)
        yield process, port
    finally:
        end(process)


@pytest.mark.server
@pytest.mark.postgres
def test_the_service_runs_on_a_read_only_root_and_is_healthy(served: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = served
    command = [word.replace(":8000/", f":{port}/") for word in health_command()]
    assert subprocess.run([sys.executable, *command[1:]]).returncode == 0
    base = f"http://127.0.0.1:{port}"
    ready = httpx.get(f"{base}/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "healthy")
    account = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery"}
    assert httpx.post(f"{base}/api/v1/users", json=account).status_code == 201
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    # The check says so once nothing answers any more.
    assert subprocess.run([sys.executable, *command[1:]], capture_output=True).returncode == 1
