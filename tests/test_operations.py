"""What operators and proxies see: health, metrics, headers, the document, and a Redis that is down."""

import asyncio
import json
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from quart import Quart
from quart.testing import QuartClient

from app.db.outage import QUIET_SECONDS
from app.errors import root_cause
from app.factory import create_app
from app.kit.client.breaker import Breaker
from app.kit.sessions.record import bucket_for, new_id
from app.migrations import upgrade
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION
from app.web.routes.metrics import PROXY_HEADERS
from tests.application import create_test_app
from tests.deployments import redis_cli
from tests.faults.load import BUDGET_SECONDS, SLACK_SECONDS
from tests.notices import NOTICE, pin_notice
from tests.services import RedisServer, free_port
from tests.waiting import eventually

SESSION_ID = new_id(bucket_for(1))
CREDENTIALS = {"email": "a@example.org", "password": "correct horse battery"}


async def test_health_reports_each_backend(client: QuartClient) -> None:
    response = await client.get("/health")
    assert response.status_code == 200
    report = await response.get_json()
    assert report["status"] == "healthy"
    assert set(report["checks"]) >= {"redis", "redis_memory", "database", "tasks", "loop"}
    assert report["checks"]["redis_memory"]["status"] == "embedded"
    for path in ("/health/live", "/health/ready"):
        assert (await client.get(path)).status_code == 200


async def test_metrics_are_for_loopback_only(client: QuartClient) -> None:
    await client.get("/api/v1/notices")
    response = await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})
    assert response.status_code == 200
    text = await response.get_data(as_text=True)
    assert 'quartet_http_requests_total{method="GET",route="/api/v1/notices",status="200"} 1.0' in text
    assert "quartet_app_info" in text
    assert "quartet_gc_pause_seconds" in text
    assert (await client.get("/metrics", scope_base={"client": ("192.0.2.1", 1)})).status_code == 403


@pytest.mark.parametrize("name", PROXY_HEADERS)
async def test_metrics_are_not_for_what_a_proxy_passes_on(client: QuartClient, name: str) -> None:
    answer = await client.get("/metrics", headers={name: "192.0.2.1"}, scope_base={"client": ("127.0.0.1", 1)})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "proxy", [{"TRUSTED_PROXIES": "127.0.0.1"}, {"TRUSTED_HOPS": "1"}, {"ALLOWED_HOSTS": "a.example"}]
)
async def test_metrics_are_not_for_a_local_proxy_that_adds_no_header(
    sqlite_template: Path, proxy: dict[str, str]
) -> None:
    app = create_test_app({**proxy, "DATABASE_URL": f"sqlite+aiosqlite:///{sqlite_template}"})
    async with app.test_app() as serving:
        host = proxy.get("ALLOWED_HOSTS", "localhost")
        answer = await serving.test_client().get(
            "/metrics", headers={"Host": host}, scope_base={"client": ("127.0.0.1", 1)}
        )
        assert answer.status_code == 403


async def test_metrics_with_a_token_ask_for_it(sqlite_template: Path) -> None:
    token = "t" * 20
    app = create_test_app({"METRICS_TOKEN": token, "DATABASE_URL": f"sqlite+aiosqlite:///{sqlite_template}"})
    async with app.test_app() as serving:
        client = serving.test_client()
        for given in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token} "):
            assert (await client.get("/metrics", headers={"Authorization": given})).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        for given in ("", "Bearer", f"Bearer{token}", f"Basic {token}", token, "Bearer wrong", "Bearer \xff"):
            answer = await client.get("/metrics", headers={"Authorization": given})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("path", ["/api/v1/notices", "/docs", "/nothing", "/health/live", "/static/quartet.css"])
async def test_every_answer_has_the_security_headers_and_an_id(client: QuartClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-ID"]
    assert "Cache-Control" in headers


async def test_a_request_id_counts_where_a_trusted_proxy_sends_it_well_formed(app: Quart, client: QuartClient) -> None:
    """Anybody else could make several requests look like one in the log."""

    async def answered(sent: str) -> str:
        return (await client.get("/health/live", headers={"X-Request-ID": sent})).headers["X-Request-ID"]

    assert await answered("abc-123_DEF") != "abc-123_DEF"
    app.config["TRUSTED_PROXIES"] = ("10.0.0.0/8",)
    assert await answered("abc-123_DEF") != "abc-123_DEF"
    app.config["TRUSTED_PROXIES"] = ("127.0.0.1/32",)
    assert await answered("abc-123_DEF") == "abc-123_DEF"
    assert await answered("a b\tc") != "a b\tc"
    app.config.update(TRUSTED_PROXIES=(), TRUSTED_HOPS=1)
    assert await answered("abc-123_DEF") == "abc-123_DEF"


async def test_the_document_describes_every_route_of_the_api(app: Quart, client: QuartClient) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    assert document["openapi"].startswith("3.1")
    described = set(document["paths"])
    # OpenAPI describes no WebSockets; docs/events_clients.md does.
    rules = [rule for rule in app.url_map.iter_rules() if not rule.websocket]
    routes = {rule.rule for rule in rules if rule.rule.startswith("/api/")}
    assert {_template(rule) for rule in routes} <= described


def _template(rule: str) -> str:
    """Werkzeug's <int:name> as OpenAPI's {name}."""
    return "".join(
        part if not part.startswith("<") else "{" + part[1:-1].rpartition(":")[2] + "}" for part in _split(rule)
    )


def _split(rule: str) -> list[str]:
    return rule.replace("<", "\0<").replace(">", ">\0").split("\0")


@pytest.fixture
async def client_on_server(
    own_server: RedisServer, sqlite_template: Path, tmp_path: Path
) -> AsyncIterator[QuartClient]:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "REDIS_URL": own_server.url,
        "REDIS_BUDGET_MS": str(int(BUDGET_SECONDS * 1000)),
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
    }
    app = create_test_app(environ)
    async with app.test_app() as serving:
        yield cast(QuartClient, serving.test_client())


@pytest.mark.server
async def test_without_redis_public_answers_come_and_protected_ones_are_503(
    own_server: RedisServer, client_on_server: QuartClient
) -> None:
    client = client_on_server
    await client.post("/api/v1/users", json={**CREDENTIALS, "name": "A"})
    session = (await (await client.post("/api/v1/login", json=CREDENTIALS)).get_json())["session_id"]
    headers = {"X-Session-ID": session}
    assert (await client.get("/api/v1/profile", headers=headers)).status_code == 200
    checks = (await (await client.get("/health")).get_json())["checks"]
    assert checks["redis"]["breakers"] == {"server": "closed"}
    metrics = await (await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})).get_data(as_text=True)
    assert 'quartet_redis_breaker_open{server="server"} 0.0' in metrics
    assert "quartet_redis_dedicated" in metrics
    own_server.kill()
    for path in ("/api/v1/notices", "/docs", "/health/live", "/openapi.json"):
        assert (await client.get(path)).status_code == 200, path
        assert (await client.get(path, headers={"Cookie": f"quartet={session}"})).status_code == 200, path
    for refused in (
        await client.get("/api/v1/profile", headers=headers),
        await client.get("/api/v1/sessions", headers={"Cookie": f"quartet={session}"}),
        await client.post("/api/v1/login", json=CREDENTIALS),
        await client.get("/health"),
    ):
        assert refused.status_code == 503
        if refused.content_type == "application/problem+json":
            assert int(refused.headers["Retry-After"]) >= 1
    # A balancer leaves the node in: it still answers what needs no Redis.
    ready = await client.get("/health/ready")
    report = await ready.get_json()
    assert (ready.status_code, report["status"]) == (200, "degraded")
    assert report["checks"]["redis"] == {"status": "unhealthy", "error": "ConnectionError"}
    own_server.start()

    async def healthy() -> bool:
        return bool((await (await client.get("/health/ready")).get_json())["status"] == "healthy")

    await eventually(healthy, seconds=5)
    # The server kept nothing: the session is gone, and that is said, not an error.
    assert (await client.get("/api/v1/profile", headers=headers)).status_code == 401


@pytest.mark.server
async def test_a_redis_that_is_full_is_no_defect(own_server: RedisServer, client_on_server: QuartClient) -> None:
    """It answers reads and refuses writes: what needs a write is 503, all else goes on."""
    client = client_on_server
    await client.post("/api/v1/users", json={**CREDENTIALS, "name": "A"})
    session = (await (await client.post("/api/v1/login", json=CREDENTIALS)).get_json())["session_id"]
    headers = {"X-Session-ID": session}
    redis_cli(own_server.port, "config", "set", "maxmemory", "1")
    assert (await client.get("/api/v1/notices")).status_code == 200
    assert (await client.get("/api/v1/profile", headers=headers)).status_code == 200
    assert (await client.post("/api/v1/notices", json=NOTICE, headers=headers)).status_code == 201
    refused = await client.post("/api/v1/login", json=CREDENTIALS)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    ended = await client.post("/api/v1/logout", headers=headers)
    assert ended.status_code in {204, 503}
    redis_cli(own_server.port, "config", "set", "maxmemory", "0")
    assert (await client.post("/api/v1/login", json=CREDENTIALS)).status_code == 200


@pytest.mark.server
async def test_no_request_waits_for_a_silent_redis_longer_than_its_budget(
    own_server: RedisServer, client_on_server: QuartClient
) -> None:
    """It has stopped without a word, and each request asks it several times: for session, limits and cache."""
    client, loop = client_on_server, asyncio.get_running_loop()
    assert (await client.get("/api/v1/notices")).status_code == 200
    own_server.signal(signal.SIGSTOP)
    for path, status in (("/api/v1/notices", 200), ("/api/v1/profile", 503), ("/docs", 200)) * 5:
        began = loop.time()
        answer = await client.get(path, headers={"X-Session-ID": SESSION_ID})
        assert answer.status_code == status, path
        assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
    began = loop.time()
    ready = await client.get("/health/ready")
    assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
    assert (ready.status_code, (await ready.get_json())["status"]) == (200, "degraded")
    own_server.signal(signal.SIGCONT)


@pytest.mark.server
async def test_a_second_server_for_the_cache_is_seen_and_may_be_down(
    own_server: RedisServer, redis_server: RedisServer, sqlite_template: Path
) -> None:
    environ = {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": "second",
        "CACHE_REDIS_URL": own_server.url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{sqlite_template}",
        "CONSUMER": "0",
        # Less than a check of /health may take.
        "REDIS_BUDGET_MS": str(int(BUDGET_SECONDS * 1000)),
    }
    app = create_test_app(environ)
    async with app.test_app() as serving:
        client = serving.test_client()
        assert (await client.get("/api/v1/notices")).status_code == 200
        checks = (await (await client.get("/health")).get_json())["checks"]
        assert checks["cache"] == {"status": "healthy", "breakers": {"server": "closed"}}
        metrics = await (await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})).get_data(as_text=True)
        assert 'quartet_redis_breaker_open{server="cache:server"} 0.0' in metrics
        own_server.kill()
        answer = await client.get("/health")
        assert (answer.status_code, (await answer.get_json())["checks"]["cache"]["status"]) == (200, "bypassed")
        assert (await client.get("/api/v1/notices")).status_code == 200


def serving_from(database_url: str) -> Quart:
    return create_test_app({"ENVIRONMENT": "testing", "DATABASE_URL": database_url})


async def test_a_database_that_is_not_migrated_is_not_ready(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
    async with serving_from(url).test_app() as serving:
        client = serving.test_client()
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        check = (await ready.get_json())["checks"]["database"]
        assert (check["status"], check["error"]) == ("unhealthy", "SchemaBehind")
        assert check["missing_revisions"]
        await asyncio.to_thread(upgrade, url)
        assert (await client.get("/health/ready")).status_code == 200
        # A later version has migrated it meanwhile, as in a rolling upgrade: this one goes on serving.
        with closing(sqlite3.connect(tmp_path / "empty.db")) as connection, connection:
            later = "UPDATE alembic_version SET version_num = 'outbox_9999' WHERE version_num LIKE 'outbox%'"
            assert connection.execute(later).rowcount == 1
        assert (await client.get("/health/ready")).status_code == 200


async def test_an_outage_of_the_database_is_logged_when_it_begins_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay, which asks each second, and the probes find no tables; then they do."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"

    def lines() -> list[str]:
        return [line.partition(":")[0] for line in caplog.messages if line.startswith(("the database", "the outbox"))]

    async with serving_from(url).test_app() as serving:
        client = serving.test_client()
        for _ in range(5):
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/api/v1/notices")).status_code == 503
        assert lines() == ["the database is unavailable"]
        await asyncio.to_thread(upgrade, url)
        await eventually(lambda: len(lines()) == 2, seconds=QUIET_SECONDS + 5)
    assert lines() == ["the database is unavailable", "the database answers again"]


async def test_a_database_that_is_down_is_a_line_that_names_the_drivers_error(
    caplog: pytest.LogCaptureFixture, postgres_url: str
) -> None:
    nobody = postgres_url.replace("quartet@", "nobody:secret@")
    for url, error, reason in (
        (f"postgresql+asyncpg://quartet:secret@127.0.0.1:{free_port()}/quartet", "ConnectionRefusedError", ""),
        (nobody, "InvalidAuthorizationSpecificationError", ": the role does not exist"),
    ):
        async with serving_from(url).test_app() as serving:
            client = serving.test_client()
            for _ in range(3):
                assert (await client.get("/api/v1/notices")).status_code == 503
                ready = await client.get("/health/ready")
                assert ready.status_code == 503
                assert (await ready.get_json())["checks"]["database"] == {"status": "unhealthy", "error": error}
        lines = [line for line in caplog.messages if "database" in line]
        assert lines == [f"the database is unavailable: {error}{reason}"]
        assert not [record for record in caplog.records if record.exc_info]
        assert "secret" not in caplog.text
        caplog.clear()


async def test_a_task_that_finds_the_database_down_is_logged_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    app = serving_from(f"postgresql+asyncpg://quartet@127.0.0.1:{free_port()}/quartet")
    async with app.test_app():
        resources: Resources = app.extensions[EXTENSION]
        await resources.queue.enqueue(pin_notice, "Closed.")

        async def failed() -> bool:
            return any("pin_notice failed: Unavailable" in message for message in caplog.messages)

        await eventually(failed)
    assert not [record for record in caplog.records if record.exc_info]


async def test_the_front_leads_to_the_documents_unless_a_slice_has_a_page_there(sqlite_template: Path) -> None:
    settings = load_settings({"ENVIRONMENT": "testing", "DATABASE_URL": f"sqlite+aiosqlite:///{sqlite_template}"})
    async with create_app(settings, slices=[]).test_app() as serving:
        answer = await serving.test_client().get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


async def test_browsers_find_the_icon(client: QuartClient) -> None:
    icon = await client.get("/favicon.ico")
    assert (icon.status_code, icon.content_type) == (200, "image/svg+xml; charset=utf-8")


def test_causes_that_go_round_have_an_end() -> None:
    first, second, third = ValueError(), KeyError(), OSError()
    first.__cause__, second.__cause__, third.__cause__ = second, third, second
    assert root_cause(first) is third


def test_a_breaker_keeps_an_error_and_none_of_its_frames() -> None:
    breaker = Breaker()
    try:
        raise ConnectionError
    except ConnectionError as error:
        breaker.failed(error)
    assert isinstance(breaker.last_error, ConnectionError)
    assert breaker.last_error.__traceback__ is None
