"""schemathesis sends what the document of the API allows and what it forbids, and holds each answer against it."""

import asyncio
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from quart import Quart, Response, request

from app import factory
from app.db.base import now
from app.domain.seed import seed
from app.domain.users.models import User
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION
from tests.served import served

# As many as a user may have.
SESSIONS_A_USER = 20
LONGEST_LINE = 500
HOOKS = "tests.schemathesis_hooks"
CONFIG = Path(__file__).parent / "schemathesis.toml"


async def sessions_of_admins(resources: Resources, number: int) -> list[str]:
    """Ids of sessions, those of one user after those of another."""
    users = [
        User(email=f"admin{n}@example.com", name=f"Admin {n}", password_hash="x", roles=["admin"], created_at=now())
        for n in range(number)
    ]
    async with resources.database.write() as session:
        for user in users:
            session.add(user)
    create = resources.sessions.create
    return [(await create({}, channel="header", user_id=each.id)).id for each in users for _ in range(SESSIONS_A_USER)]


def count_answers(app: Quart) -> Counter[tuple[str, int]]:
    """By endpoint and method, and status."""
    found: Counter[tuple[str, int]] = Counter()

    async def count(response: Response) -> Response:
        if request.endpoint:
            found[f"{request.method} {request.endpoint}", response.status_code] += 1
        return response

    app.after_request(count)
    return found


async def schemathesis(url: str, *options: str, folder: Path, sessions: list[str]) -> None:
    """Fails with its report when a check has failed."""
    file = folder / "sessions"
    file.write_text("\n".join(sessions))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", *options]
    environ = os.environ | {
        "SCHEMATHESIS_HOOKS": HOOKS,
        "SESSIONS_FILE": str(file),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        f"{url}/openapi.json",
        env=environ,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize(
    ("users", "effort"),
    [
        pytest.param(20, ("--max-examples", "3", "--generation-deterministic"), id="few"),
        # Other requests each time, for ten minutes.
        pytest.param(400, ("--max-examples", "100", "--max-time", "600"), id="many", marks=pytest.mark.long),
    ],
)
async def test_every_answer_is_in_the_document(
    users: int, effort: Sequence[str], sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All requests are those of one user at a time.
    monkeypatch.setattr(factory, "DEFAULT_LIMIT", "1000000/minute")
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "TRUSTED_PROXIES": "127.0.0.1",
        # The one is open already, so that every other stream of events ends at once.
        "MAX_STREAMS": "1",
    }
    app = factory.create_app(load_settings(environ))
    answers = count_answers(app)
    async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        resources: Resources = app.extensions[EXTENSION]
        await seed(resources)
        async with client.stream("GET", "/api/v1/events"):
            sessions = await sessions_of_admins(resources, users)
            url = str(client.base_url).rstrip("/")
            await schemathesis(url, "--checks", "all", "--no-color", *effort, folder=tmp_path, sessions=sessions)
    # The requests have reached the views.
    succeeded = {operation for operation, status in answers if 200 <= status < 300}
    assert len(succeeded) > 0.6 * len({operation for operation, _ in answers}), answers
