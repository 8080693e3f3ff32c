"""What the `quartet` command does, what it refuses, and how it says so."""

import asyncio
import errno
import json
import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app import __version__
from app.cli.database import _seed
from app.lifespan import BACKGROUND_SECONDS
from app.serving.sockets import _hint
from app.settings import Settings, load_settings
from tests.commands import quartet, started
from tests.services import binary, free_port

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 32,
    "REDIS_URL": "redis://127.0.0.1:1",
    "PUBLIC_URL": "https://example.org",
    "METRICS_TOKEN": "m" * 16,
}
WARNING = "is not a setting"


def test_bad_settings_are_listed_by_name_before_anything_starts(tmp_path: Path) -> None:
    done = quartet(tmp_path, "serve", WORKERS="many", BIND="x", ENVIRONMENT="production")
    assert done.returncode == 2
    for name in ("WORKERS", "BIND", "SECRET_KEY", "PUBLIC_URL", "REDIS_URL"):
        assert f"{name}:" in done.stderr


def test_a_bad_redis_url_names_the_part_that_is_wrong(tmp_path: Path) -> None:
    done = quartet(tmp_path, "serve", REDIS_URL="redis://:hunter2@localhost:port/0")
    assert done.returncode == 2
    assert "REDIS_URL: the port of host localhost" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_worker_of_its_own_refuses_the_embedded_store(tmp_path: Path) -> None:
    done = quartet(tmp_path, "worker", REDIS_URL="memory://")
    assert done.returncode == 1
    assert "REDIS_URL is memory://" in done.stderr


@pytest.mark.parametrize("command", ["seed", "run"])
def test_demo_data_is_refused_in_production(tmp_path: Path, command: str) -> None:
    done = quartet(tmp_path, command, DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/x.db", **PRODUCTION)
    assert done.returncode == 1
    assert "production" in done.stderr
    assert not (tmp_path / "x.db").exists()


def test_seed_shows_random_passwords_once(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/demo.db"
    assert quartet(tmp_path, "db", "upgrade", DATABASE_URL=database).returncode == 0
    first, second = (quartet(tmp_path, "seed", DATABASE_URL=database).stdout for _ in range(2))
    passwords = re.findall(r"password (\S{16})", first)
    assert len(set(passwords)) == 3
    assert "admin@example.com" in second
    assert not any(password in second for password in passwords)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("command", ["serve", "run"])
@pytest.mark.parametrize("several", [{}, {"WORKERS": "2", "REDIS_URL": "redis://127.0.0.1:1"}], ids=["one", "several"])
def test_an_address_in_use_is_an_error_that_says_so(
    tmp_path: Path, taken: str, command: str, several: dict[str, str]
) -> None:
    done = quartet(tmp_path, command, BIND=taken, **several)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: cannot listen on {taken}: Address already in use; BIND=127.0.0.1:9000 serves elsewhere\n"
    )
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_several_workers_refuse_a_port_that_another_server_shares(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        done = quartet(tmp_path, "serve", BIND=bind, WORKERS="2", REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_a_unix_address_that_cannot_be_had_has_no_hint_of_a_port(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = quartet(tmp_path, "serve", BIND=f"unix:{tmp_path}/file")
    assert done.stderr == f"Error: cannot listen on unix:{tmp_path}/file: a file that is no socket is there\n"


def test_a_port_that_needs_rights_is_told_of() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied")
    assert "below 1024" in _hint(refused, "127.0.0.1:80")
    assert _hint(refused, "unix:/run/quartet.sock") == ""


@pytest.mark.parametrize(
    "command", [("serve",), ("run",), ("seed",), ("db", "upgrade"), ("users", "set-role", "a@b.c", "user"), ("worker",)]
)
def test_a_path_of_sqlite_that_cannot_be_made_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    given = {"BIND": f"127.0.0.1:{free_port()}", "REDIS_URL": "redis://127.0.0.1:1"}
    done = quartet(tmp_path, *command, DATABASE_URL="sqlite+aiosqlite:///file/x/a.db", **given)
    assert done.returncode == 1
    assert done.stderr == "Error: The database's folder file/x cannot be made: Not a directory.\n"


@pytest.mark.parametrize("command", [("db", "upgrade"), ("run",)], ids=" ".join)
def test_a_database_of_a_later_version_is_not_upgraded_and_said_in_a_line(
    tmp_path: Path, sqlite_template: Path, command: tuple[str, ...]
) -> None:
    shutil.copy(sqlite_template, tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = version_num || ' of a later version'")
    done = quartet(tmp_path, *command, DATABASE_URL="sqlite+aiosqlite:///a.db", BIND=f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the migrations do not fit this database")
    assert "Traceback" not in done.stderr


@pytest.mark.postgres
def test_a_role_that_is_refused_is_told_by_the_drivers_error(tmp_path: Path, postgres_url: str) -> None:
    address = make_url(postgres_url)
    # The test's server trusts everybody; of this one role alone it asks for the password.
    psql = [binary("psql"), "-qAt", "-h", str(address.host), "-p", str(address.port), "-U", str(address.username)]

    def ask(statement: str) -> str:
        return subprocess.run([*psql, "-c", statement, "quartet"], check=True, capture_output=True, text=True).stdout

    ask("CREATE ROLE locked LOGIN PASSWORD 'right'")
    rules = Path(ask("SHOW hba_file").strip())
    rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    ask("SELECT pg_reload_conf()")
    for user, kind in (("nobody:hunter2", "InvalidAuthorization"), ("locked:hunter2", "InvalidPassword")):
        name, password = user.split(":")
        url = address.set(username=name, password=password).render_as_string(hide_password=False)
        done = quartet(tmp_path, "db", "upgrade", DATABASE_URL=url)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"Error: the database cannot be reached, or refuses: {kind}")
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr


def test_a_database_that_is_down_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = quartet(tmp_path, "db", "upgrade", DATABASE_URL="postgresql+asyncpg://user:hunter2@127.0.0.1:1/quartet")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the database cannot be reached")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_the_version_is_told_whatever_the_settings(tmp_path: Path) -> None:
    assert started(tmp_path, "--version", WORKERS="many").stdout == f"quartet {__version__}\n"


def test_the_table_of_settings_tells_values_and_sources_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=warning\nWORKERS=3\nREDIS_PASSWORD=hunter2\nREDIS_HOST=cache\n")
    given = {
        "WORKERS": "2",
        "SECRET_KEY": "hunter2" * 5,
        "METRICS_TOKEN": "hunter2",
        "DATABASE_URL": "postgresql+asyncpg://ada:hunter2@db/quartet",
    }
    shown = quartet(tmp_path, "settings", **given)
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    assert rows.keys() - {"SETTING"} == {name.upper() for name in Settings.model_fields}
    assert rows["LOG_LEVEL"] == ["warning", ".env"]
    assert rows["WORKERS"] == ["2", "environment"]
    assert rows["NAMESPACE"] == ["quartet", "default"]
    assert rows["SECRET_KEY"] == rows["METRICS_TOKEN"] == ["***", "environment"]
    assert rows["DATABASE_URL"] == ["postgresql+asyncpg://ada:***@db/quartet", "environment"]
    assert rows["REDIS_URL"] == ["redis://:***@cache:6379/0", "REDIS_HOST,", "REDIS_PASSWORD", "(.env)"]
    as_json = quartet(tmp_path, "settings", "--json", **given)
    assert json.loads(as_json.stdout)["WORKERS"] == {"value": 2, "source": "environment"}
    assert "hunter2" not in shown.stdout + shown.stderr + as_json.stdout + as_json.stderr


COMMANDS = [("serve",), ("run",), ("worker",), ("seed",), ("db", "upgrade"), ("settings",), ("settings", "--json")]


@pytest.mark.parametrize("command", [*COMMANDS, ("users", "set-role", "a@example.org", "user")], ids=" ".join)
def test_every_command_warns_once_of_a_mistyped_variable(tmp_path: Path, taken: str, command: tuple[str, ...]) -> None:
    (tmp_path / ".env").write_text("OTHER=hunter2\n")
    # Each ends at once: serve and run for their address, others for their store, the database or their work.
    done = quartet(tmp_path, *command, LOG_LEVL="hunter2", BIND=taken, DATABASE_URL="sqlite+aiosqlite:///.env/a.db")
    lines = [line for line in done.stderr.splitlines() if WARNING in line]
    assert [re.findall(r"(\w+) in ", line) for line in lines] == [["OTHER"], ["LOG_LEVL"]]
    assert "[warning" in lines[0]
    assert "[app.cli]" in lines[0]
    assert "did you mean LOG_LEVEL?" in lines[1]
    assert "hunter2" not in done.stderr
    assert WARNING not in done.stdout
    if "--json" in command:
        assert json.loads(done.stdout)


@pytest.mark.parametrize("command", [("seed",), ("db", "upgrade"), ("run",)], ids=" ".join)
def test_a_database_that_is_down_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"postgresql+asyncpg://quartet:hunter2@127.0.0.1:{free_port()}/quartet"
    done = quartet(tmp_path, *command, DATABASE_URL=url, BIND=f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


async def test_demo_data_waits_for_a_silent_redis_no_longer_than_a_request(
    tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "a.db")
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {
            "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}",
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/a.db",
        }
        began = loop.time()
        made = await _seed(load_settings(given))
    assert len(made) == 3
    # Otherwise each of its messages would wait for so long.
    assert loop.time() - began < BACKGROUND_SECONDS
