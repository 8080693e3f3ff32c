"""Cross-origin requests: off unless stated; preflights are answered before anything is asked or counted."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from quart import Response
from quart.testing import QuartClient

from app.settings import SettingsError, load_settings
from tests.application import create_test_app

ORIGIN = "https://app.example.com"
ASKED = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "api-key"}
ACCOUNT = {"email": "a@example.org", "name": "A", "password": "correct horse battery"}


@asynccontextmanager
async def client_with(template: Path, folder: Path, **settings: str) -> AsyncIterator[QuartClient]:
    shutil.copy(template, folder / "cors.db")
    database_url = f"sqlite+aiosqlite:///{folder / 'cors.db'}"
    app = create_test_app({"ENVIRONMENT": "testing", "DATABASE_URL": database_url, **settings})
    async with app.test_app() as serving:
        yield cast(QuartClient, serving.test_client())


def granted(response: Response) -> set[str]:
    return {name.lower() for name, _ in response.headers if name.lower().startswith("access-control-")}


async def test_it_is_off_by_default(sqlite_template: Path, tmp_path: Path) -> None:
    async with client_with(sqlite_template, tmp_path) as client:
        assert not granted(await client.options("/api/v1/profile", headers=ASKED))
        assert not granted(await client.get("/api/v1/notices", headers={"Origin": ORIGIN}))
        refused = await client.post("/api/v1/users", json=ACCOUNT, headers={"Origin": ORIGIN})
        assert refused.status_code == 403


async def test_a_preflight_is_answered_before_limits(sqlite_template: Path, tmp_path: Path) -> None:
    settings = {"CORS_ORIGINS": f"{ORIGIN}, https://other.example", "CORS_CREDENTIALS": "1", "CORS_HEADERS": "X-Mine"}
    async with client_with(sqlite_template, tmp_path, **settings) as client:
        for _ in range(40):  # more than login allows
            answer = await client.options("/api/v1/login", headers=ASKED)
            assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert {"API-Key", "X-Mine"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
        assert "X-RateLimit-Limit" not in answer.headers
        other = await client.options("/api/v1/login", headers=ASKED | {"Origin": "https://evil.example"})
        assert not granted(other)


async def test_answers_and_errors_can_be_read(sqlite_template: Path, tmp_path: Path) -> None:
    async with client_with(sqlite_template, tmp_path, CORS_ORIGINS=ORIGIN) as client:
        for path, status in (("/api/v1/notices", 200), ("/api/v1/profile", 401), ("/nowhere", 404)):
            for origin in (ORIGIN, "https://evil.example"):
                answer = await client.get(path, headers={"Origin": origin})
                assert answer.status_code == status
                assert answer.headers.get("Access-Control-Allow-Origin") == (ORIGIN if origin == ORIGIN else None)
                assert "Origin" in answer.headers["Vary"]
        made = await client.post("/api/v1/users", json=ACCOUNT, headers={"Origin": ORIGIN})
        assert made.status_code == 201
        refused = await client.post("/api/v1/users", json=ACCOUNT, headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403


async def test_any_origin_is_without_a_session(sqlite_template: Path, tmp_path: Path) -> None:
    async with client_with(sqlite_template, tmp_path, CORS_ORIGINS="*") as client:
        answer = await client.get("/api/v1/notices", headers={"Origin": "https://anyone.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        cookie = {"Origin": "https://anyone.example", "Cookie": "quartet=x"}
        assert (await client.post("/api/v1/users", json=ACCOUNT, headers=cookie)).status_code == 403


@pytest.mark.parametrize(
    "settings",
    [
        {"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "1"},
        {"CORS_ORIGINS": "https://a.example/path"},
        {"CORS_HEADERS": "a b"},
    ],
)
def test_what_browsers_would_refuse_is_an_error_of_the_settings(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="CORS_"):
        load_settings(settings)
