"""The migrations and the models describe the same schema, on both databases."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import create_async_engine

from app.migrations import check, downgrade, upgrade
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
