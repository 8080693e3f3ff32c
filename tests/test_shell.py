"""quartet shell awaits at its prompt, and quartet users lists and deletes accounts."""

import shutil
from pathlib import Path

import pytest

from tests.commands import quartet
from tests.services import RedisServer

LINES = """\
from sqlalchemy import text
async with resources.database.read() as session:
    print("users", await session.scalar(text("SELECT count(*) FROM users")))

answer = await resources.redis.ping()
print("redis", answer)
1 / 0
print("still here")
"""


def test_the_prompt_awaits_and_survives_an_error(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "shell.db")
    url = f"sqlite+aiosqlite:///{tmp_path / 'shell.db'}"
    done = quartet(tmp_path, "shell", input=LINES, DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    for line in ("users 0", "redis True", "still here"):
        assert line in done.stdout
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.server
def test_accounts_are_listed_and_deleted(sqlite_template: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    shutil.copy(sqlite_template, tmp_path / "users.db")
    settings = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'users.db'}",
        "REDIS_URL": redis_server.url,
        "NAMESPACE": "users-command",
    }
    for name in ("ada", "bob"):
        made = quartet(
            tmp_path, "users", "create", f"{name}@example.org", "--name", name, input="long enough\n", **settings
        )
        assert made.returncode == 0, made.stderr
    listed = quartet(tmp_path, "users", "list", **settings)
    assert [line.split("\t")[1:3] for line in listed.stdout.splitlines()] == [
        ["ada@example.org", "user"],
        ["bob@example.org", "user"],
    ]
    assert quartet(tmp_path, "users", "delete", "ada@example.org", "--yes", **settings).returncode == 0
    assert quartet(tmp_path, "users", "delete", "ada@example.org", "--yes", **settings).returncode == 1
    rest = quartet(tmp_path, "users", "list", "--limit", "1", **settings).stdout.splitlines()
    assert [line.split("\t")[1] for line in rest] == ["bob@example.org"]
