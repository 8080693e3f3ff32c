"""Fresh, migrated databases for tests. A copy of a template takes milliseconds, migrating anew does not."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url

from app.db.database import Database
from app.migrations import upgrade

_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    url = create_postgres(postgres_url, template="template1")
    upgrade(url)
    return url


def create_postgres(server_url: str, *, template: str) -> str:
    """The URL of a new database on the same server. It may be called inside a running loop."""
    url, name = make_url(server_url), f"test{next(_numbers)}"

    async def create() -> None:
        connection = await asyncpg.connect(host=url.host, port=url.port, user=url.username, database="postgres")
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()

    # A session by asyncpg costs a tenth of a createdb process, and there are hundreds of databases in a run.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, create()).result()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database of this test alone."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "test.db")
        return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    template: str = request.getfixturevalue("postgres_template")
    return create_postgres(template, template=str(make_url(template).database))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()
