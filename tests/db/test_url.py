"""The options of a database URL: libpq's names work, and others are an error of the settings."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, text

from app.db.database import Database
from app.db.url import BadURL, check_database_url
from app.factory import check_urls
from app.settings import SettingsError, load_settings
from tests.commands import quartet


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("sslmode=disable", "quartet"),
        ("sslmode=prefer&application_name=night%20desk", "night desk"),
        ("connect_timeout=3&target_session_attrs=read-write", "quartet"),
        ("statement_cache_size=0&prepared_statement_cache_size=0", "quartet"),
    ],
)
async def test_options_of_libpq_reach_the_server(postgres_url: str, options: str, shown: str) -> None:
    check_database_url(f"{postgres_url}?{options}")
    database = Database(f"{postgres_url}?{options}")
    async with database.read() as session:
        assert await session.scalar(select(text("current_setting('application_name')"))) == shown
    await database.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+asyncpg://u@h/d?sslmod=require", "sslmod"),
        ("postgresql+asyncpg://u@h/d?channel_binding=require", "channel_binding"),
        ("postgresql+asyncpg://u@h/d?sslmode=always", "sslmode must be one of disable"),
        ("postgresql+asyncpg://u@h/d?sslmode=require&sslmode=disable", "sslmode needs one value"),
        ("postgresql+asyncpg://u@h/d?connect_timeout=soon", "connect_timeout must be a whole number"),
        ("postgresql+asyncpg://u@h/d?sslrootcert=/no/such/file", "sslrootcert must name a file"),
        ("sqlite+aiosqlite:///x.db?timeout=3", "SQLite takes no options"),
    ],
)
def test_other_options_are_an_error_of_the_settings(url: str, told: str) -> None:
    for variable in ("DATABASE_URL", "DATABASE_REPLICA_URL"):
        with pytest.raises(SettingsError, match=f"{variable}: .*{told}"):
            check_urls(load_settings({variable: url}))


def test_a_value_is_not_repeated() -> None:
    with pytest.raises(BadURL) as caught:
        check_database_url("postgresql+asyncpg://u@h/d?sslpassword=hunter2&passfile=hunter2&sslmode=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.postgres
def test_a_role_or_database_that_does_not_exist_is_told_in_a_line(postgres_url: str, tmp_path: Path) -> None:
    for url, reason in (
        (postgres_url.replace("quartet@", "nobody@"), "the role does not exist"),
        (postgres_url + "x", "the database does not exist"),
    ):
        refused = quartet(tmp_path, "db", "upgrade", DATABASE_URL=url)
        assert refused.returncode == 1
        [line] = refused.stderr.splitlines()
        assert line.endswith(reason)
        assert "nobody" not in line


@pytest.mark.postgres
def test_the_log_says_why_a_role_is_refused(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        database = Database(postgres_url.replace("quartet@", "nobody@"))
        try:
            async with database.read() as session:
                await session.scalar(select(text("1")))
        finally:
            await database.close()

    with pytest.raises(Exception, match="does not answer"):
        asyncio.run(ask())
    [line] = [line for line in caplog.messages if line.startswith("the database is unavailable")]
    assert line.endswith(": the role does not exist")
