"""The migrations and the models describe the same schema, on both databases."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import create_async_engine

from app.db.schema import Schema
from app.factory import MIGRATIONS
from app.migrations import check, downgrade, upgrade
from tests.commands import quartet, started
from tests.databases import create_postgres


def tables(database_url: str) -> set[str]:
    async def names() -> set[str]:
        engine = create_async_engine(database_url)
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda each: inspect(each).get_table_names())
        await engine.dispose()
        return set(found)

    return asyncio.run(names())


def test_models_and_migrations_agree(database_url: str) -> None:
    check(database_url)


def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = tables(database_url)
    upgrade(database_url)
    assert tables(database_url) == before


def test_downgrade_leaves_nothing_behind(database_url: str) -> None:
    downgrade(database_url, "base")
    assert tables(database_url) == {"alembic_version"}
    upgrade(database_url)
    check(database_url)


def test_a_branch_that_another_depends_on_is_not_missing(tmp_path: Path) -> None:
    """Alembic stores only revisions on which no other depends."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    write_revision(tmp_path, "base_0001", depends_on=None)
    write_revision(tmp_path, "late_0001", depends_on="base_0001")
    schema, engine = Schema(tmp_path / "migrations"), sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        everything = schema.missing(connection)
        assert everything >= {"base_0001", "late_0001", "outbox_0001"}
        connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES ('late_0001')"))
        assert everything - schema.missing(connection) == {"base_0001", "late_0001"}
    engine.dispose()


def write_revision(folder: Path, revision: str, *, depends_on: str | None) -> None:
    text = f"revision = {revision!r}\ndown_revision = None\ndepends_on = {depends_on!r}\n"
    (folder / "migrations" / "versions" / f"{revision}.py").write_text(text)


def test_a_new_migration_joins_its_branch_or_begins_one(tmp_path: Path) -> None:
    """On a copy of the application, since the migration becomes a file of it."""
    shutil.copytree(MIGRATIONS.parent, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(MIGRATIONS.parent.parent / "pyproject.toml", tmp_path)
    models = tmp_path / "app" / "domain" / "users" / "models.py"
    models.write_text(
        models.read_text() + "\n\nclass Nickname(Base):\n    __tablename__ = 'nicknames'\n\n    id: Mapped[Id]\n"
    )
    settings = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", "PYTHONPATH": str(tmp_path)}
    for branch in ("users", "notes"):
        for command in (("upgrade",), ("revision", branch, "Something new.")):
            done = started(tmp_path, "db", *command, **settings)
            assert done.returncode == 0, done.stderr
    versions = tmp_path / "app" / "migrations" / "versions"
    *_, before, newest = sorted(versions.glob("users_*.py"))
    second, first = newest.read_text(), (versions / "notes_0001.py").read_text()
    assert f'down_revision = "{before.stem}"' in second
    assert 'op.create_table(\n        "nicknames"' in second
    assert "down_revision = None" in first
    assert 'branch_labels = ("notes",)' in first
    assert "nicknames" not in first
    check = [sys.executable, "-m", "ruff", "format", "--check"]
    subprocess.run([*check, newest, versions / "notes_0001.py"], check=True, capture_output=True)
    assert started(tmp_path, "db", "upgrade", **settings).returncode == 0


def test_a_database_with_an_unknown_migration_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Of another version, or of a slice that was deleted."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('0001')"
        )
    refused = quartet(tmp_path, "db", "upgrade", DATABASE_URL=f"sqlite+aiosqlite:///{path}")
    assert refused.returncode == 1
    assert "'0001'" in refused.stderr
    assert "a slice that is gone" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert tables(f"sqlite+aiosqlite:///{path}") == {"alembic_version"}


def test_works_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    upgrade("sqlite+aiosqlite:///deep/below/quartet.db")
    assert (tmp_path / "deep" / "below" / "quartet.db").exists()


def together(database_url: str) -> None:
    """A node is a process."""
    program = "import sys; from app.migrations import upgrade; upgrade(sys.argv[1])"
    nodes = [subprocess.Popen([sys.executable, "-c", program, database_url]) for _ in range(4)]
    assert [node.wait(60) for node in nodes] == [0] * 4
    check(database_url)


def test_nodes_migrate_together_on_sqlite(tmp_path: Path) -> None:
    together(f"sqlite+aiosqlite:///{tmp_path / 'new.db'}")


@pytest.mark.postgres
def test_nodes_migrate_together_on_postgres(postgres_url: str) -> None:
    together(create_postgres(postgres_url, template="template1"))
