"""Fresh, migrated databases for tests. A copy of a template takes milliseconds, migrating anew does not."""

import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.db.database import Database
from app.migrations import upgrade
from tests.services import binary

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
    """The URL of a new database on the same server."""
    url, name = make_url(server_url), f"test{next(_numbers)}"
    assert url.host
    address = ["-h", url.host, "-p", str(url.port), "-U", str(url.username)]
    subprocess.run([binary("createdb"), *address, "-T", template, name], check=True, capture_output=True)
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
