"""What the `quartet` command does, what it refuses, and how it says so."""

import json
import re
import socket
from pathlib import Path

import pytest

from app import __version__
from app.settings import Settings
from tests.commands import quartet
from tests.services import free_port

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 32,
    "REDIS_URL": "redis://127.0.0.1:1",
    "PUBLIC_URL": "https://example.org",
}
WARNING = "is not a setting"


def test_bad_settings_are_listed_by_name_before_anything_starts(tmp_path: Path) -> None:
    done = quartet(tmp_path, "serve", WORKERS="many", BIND="x", ENVIRONMENT="production")
    assert done.returncode == 1
    for name in ("WORKERS", "BIND", "SECRET_KEY", "PUBLIC_URL", "REDIS_URL"):
        assert f"{name}:" in done.stderr


def test_a_bad_redis_url_names_the_part_that_is_wrong(tmp_path: Path) -> None:
    done = quartet(tmp_path, "serve", REDIS_URL="redis://:hunter2@localhost:port/0")
    assert done.returncode == 1
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


@pytest.mark.parametrize("command", ["serve", "run"])
def test_an_address_in_use_is_an_error_that_says_so(tmp_path: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = quartet(tmp_path, command, BIND=f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on")
    assert "BIND=" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_down_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = quartet(tmp_path, "db", "upgrade", DATABASE_URL="postgresql+asyncpg://user:hunter2@127.0.0.1:1/quartet")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the database cannot be reached")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_the_version_is_told_whatever_the_settings(tmp_path: Path) -> None:
    assert quartet(tmp_path, "--version", WORKERS="many").stdout == f"quartet {__version__}\n"


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


@pytest.mark.parametrize("command", ["serve", "run", "worker"])
def test_a_mistyped_variable_is_warned_of_once_at_the_start(tmp_path: Path, command: str) -> None:
    (tmp_path / ".env").write_text("OTHER=hunter2\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # Each command ends at once: serve and run for their address, the worker for its store.
        done = quartet(tmp_path, command, LOG_LEVL="hunter2", BIND=f"127.0.0.1:{taken.getsockname()[1]}")
    lines = [line for line in done.stderr.splitlines() if WARNING in line]
    assert [re.findall(r"(\w+) in ", line) for line in lines] == [["OTHER"], ["LOG_LEVL"]]
    assert "did you mean LOG_LEVEL?" in lines[1]
    assert "hunter2" not in done.stderr


def test_a_command_that_only_shows_warns_of_nothing(tmp_path: Path) -> None:
    assert WARNING not in quartet(tmp_path, "settings", LOG_LEVL="debug").stderr


@pytest.mark.parametrize("command", [("seed",), ("db", "upgrade"), ("run",)], ids=" ".join)
def test_a_database_that_is_down_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"postgresql+asyncpg://quartet:hunter2@127.0.0.1:{free_port()}/quartet"
    done = quartet(tmp_path, *command, DATABASE_URL=url, BIND=f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
