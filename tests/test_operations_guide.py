"""The commands of docs/operations.md do what it says of them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url

from tests.commands import ROOT, environment
from tests.databases import create_postgres
from tests.deployments import redis_cli
from tests.services import RedisServer

Run = Callable[[str], None]


def command_of(name: str) -> str:
    """The example of the guide that begins with the comment `name`."""
    blocks = re.findall(r"```sh\n# (.*?)\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    commands: dict[str, str] = dict(blocks)
    return commands[name]


def run_example(name: str, folder: Path, **variables: str) -> None:
    """By a shell that stops at the first failure, as an operator would; `quartet` is this tree's."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "quartet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app.cli "$@"\n')
    (folder / "bin" / "quartet").chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", command_of(name)]
    given = environment({"PATH": path, "BACKUP": str(folder), **variables})
    done = subprocess.run(command, env=given, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    (folder := tmp_path / "redis").mkdir()
    server = RedisServer(folder, "--appendonly", "yes").start()
    yield server
    server.stop()


@pytest.mark.server
def test_redis_is_backed_up_while_it_runs_and_restored(durable: RedisServer, tmp_path: Path) -> None:
    variables = {"REDIS_PORT": str(durable.port), "REDIS_FOLDER": str(durable.folder)}
    redis_cli(durable.port, "set", "session", "kept")
    run_example("back up redis", tmp_path, **variables)
    assert redis_cli(durable.port, "config", "get", "auto-aof-rewrite-percentage").split()[-1] == "100"
    redis_cli(durable.port, "flushall")
    durable.stop()
    run_example("restore redis", tmp_path, **variables)
    durable.start()
    assert redis_cli(durable.port, "get", "session") == "kept"


@pytest.mark.postgres
async def test_postgresql_is_backed_up_and_restored_over_what_is_there(postgres_template: str, tmp_path: Path) -> None:
    url = make_url(create_postgres(postgres_template, template=str(make_url(postgres_template).database)))
    place = {"PGHOST": str(url.host), "PGPORT": str(url.port), "PGUSER": str(url.username)}
    variables = place | {"PGDATABASE": str(url.database), "DATABASE_URL": url.render_as_string(hide_password=False)}
    connection = await asyncpg.connect(host=url.host, port=url.port, user=url.username, database=url.database)
    row = "INSERT INTO outbox (message, attempts, due_at) VALUES ('{}', 0, now())"
    await connection.execute(row)
    run_example("back up postgresql", tmp_path, **variables)
    await connection.execute(row)
    await connection.execute("DROP TABLE users CASCADE")
    await connection.close()
    run_example("restore postgresql", tmp_path, **variables)
    connection = await asyncpg.connect(host=url.host, port=url.port, user=url.username, database=url.database)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
    assert await connection.fetchval("SELECT count(*) FROM users") == 0
    await connection.close()
