"""Redis refuses commands by a defect, here a missing permission: credentials stay guarded, and it is logged."""

import logging
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from quart import Quart

from app.factory import create_app
from app.kit.client import errors
from app.kit.keys import Keys
from app.settings import load_settings
from app.web.routes.metrics import TELEMETRY_EXTENSION
from tests.deployments import redis_cli
from tests.domain.client import Client
from tests.services import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
async def app(
    own_server: RedisServer, keys: Keys, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Quart]:
    """The whole application, whose user may do everything until a test takes something away."""
    # A defect that another test has met is logged here anew.
    monkeypatch.setattr(errors, "_logged", set())
    redis_cli(own_server.port, "acl", "setuser", "app", "on", ">s3cret", "~*", "&*", "+@all")
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    environ = {
        "NAMESPACE": keys.namespace,
        "CONSUMER": "0",
        "REDIS_URL": own_server.url.replace("//", "//app:s3cret@"),
        "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
    }
    created = create_app(load_settings(environ))
    async with created.test_app():
        yield created


@pytest.fixture
def client(app: Quart) -> Client:
    return Client(app)


def counted(app: Quart, block: str, kind: str = "defects") -> float:
    text = app.extensions[TELEMETRY_EXTENSION].exposition().decode()
    found = re.search(rf'^quartet_redis_{kind}_total{{block="{block}"}} (.+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def tracebacks(caplog: pytest.LogCaptureFixture, block: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info and record.getMessage().startswith(f"{block}: ")]


async def test_login_is_closed_where_limits_cannot_be_checked(
    app: Quart, client: Client, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    user_id = await client.register()
    redis_cli(own_server.port, "acl", "setuser", "app", "-evalsha")
    answers = [await client.log_in() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("Retry-After" in answer.headers for answer in answers)
    assert counted(app, "limits") == 3
    # An open limit admits.
    assert (await client.get(f"/users/{user_id}")).status_code == 200
    assert counted(app, "limits") == 4
    assert counted(app, "limits", "outages") == 0
    assert len(tracebacks(caplog, "limits")) == 1
    redis_cli(own_server.port, "acl", "setuser", "app", "+evalsha")
    assert (await client.log_in()).status_code == 200


async def test_nobody_is_logged_in_where_sessions_cannot_be_read(
    app: Quart, client: Client, keys: Keys, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await client.register()
    by_header = await client.signed_in()
    assert (await by_header.get("/profile")).status_code == 200
    redis_cli(own_server.port, "acl", "setuser", "app", "-hgetall")
    by_cookie = client.with_headers(Cookie=f"{keys.namespace}={by_header.headers['X-Session-ID']}")
    for each in (by_header, by_cookie):
        assert (await each.get("/profile")).status_code == 503
    assert (await app.test_client(use_cookies=False).get("/docs", headers=by_cookie.headers)).status_code == 200
    assert counted(app, "sessions") == 3
    assert counted(app, "sessions", "outages") == 0
    assert len(tracebacks(caplog, "sessions")) == 1
    redis_cli(own_server.port, "acl", "setuser", "app", "+hgetall")
    assert (await by_header.get("/profile")).status_code == 200


async def test_a_check_that_redis_refuses_is_unhealthy_and_counted_as_a_defect(
    app: Quart, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = app.test_client()
    assert (await (await client.get("/health/ready")).get_json())["status"] == "healthy"
    redis_cli(own_server.port, "acl", "setuser", "app", "-ping")
    for _ in range(2):
        ready = await client.get("/health/ready")
        assert ready.status_code == 200
        assert (await ready.get_json())["checks"]["redis"] == {"status": "unhealthy", "error": "NoPermissionError"}
    assert counted(app, "health") == 2
    assert counted(app, "health", "outages") == 0
    assert len(tracebacks(caplog, "health")) == 1
