"""What the `quartet` command refuses, and how it says so."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from app.settings import Settings

ROOT = Path(__file__).parent.parent


def quartet(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, env={**others, **settings}, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_bad_settings_are_listed_by_name_before_anything_starts() -> None:
    done = quartet("serve", WORKERS="many", BIND="x", ENVIRONMENT="production")
    assert done.returncode == 1
    for name in ("WORKERS", "BIND", "SECRET_KEY", "PUBLIC_URL", "REDIS_URL"):
        assert f"{name}:" in done.stderr


def test_a_bad_redis_url_names_the_part_that_is_wrong() -> None:
    done = quartet("serve", REDIS_URL="redis://:hunter2@localhost:port/0")
    assert done.returncode == 1
    assert "REDIS_URL: the port of host localhost" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_worker_of_its_own_refuses_the_embedded_store() -> None:
    done = quartet("worker", REDIS_URL="memory://")
    assert done.returncode == 1
    assert "REDIS_URL is memory://" in done.stderr


def test_seed_refuses_in_production(tmp_path: Path) -> None:
    settings = {"SECRET_KEY": "x" * 32, "REDIS_URL": "redis://127.0.0.1:1", "PUBLIC_URL": "https://example.org"}
    done = quartet("seed", ENVIRONMENT="production", DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/x.db", **settings)
    assert done.returncode == 1
    assert "production" in done.stderr
    assert not (tmp_path / "x.db").exists()


def test_seed_shows_random_passwords_once(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/demo.db"
    assert quartet("db", "upgrade", DATABASE_URL=database).returncode == 0
    first, second = (quartet("seed", DATABASE_URL=database).stdout for _ in range(2))
    passwords = re.findall(r"password (\S{16})", first)
    assert len(set(passwords)) == 3
    assert "admin@example.com" in second
    assert not any(password in second for password in passwords)


def test_an_address_in_use_is_an_error_that_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = quartet("serve", BIND=f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on")
    assert done.stdout == ""


def test_a_database_that_is_down_is_an_error_that_says_so() -> None:
    done = quartet("db", "upgrade", DATABASE_URL="postgresql+asyncpg://user:hunter2@127.0.0.1:1/quartet")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the database cannot be reached")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
