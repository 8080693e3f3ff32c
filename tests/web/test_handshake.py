"""WebSockets take the way of every request: Host, origin, identity, headers and the line in the log."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart, websocket
from quart.testing.connections import WebsocketResponseError
from werkzeug.datastructures import Headers

from app.resources import Resources
from app.web.context import EXTENSION
from app.web.identity.auth import current_principal_or_none, require_auth
from app.web.limits.declare import rate_limit
from tests.application import create_test_app
from tests.domain.client import Client

ORIGIN = {"Origin": "http://localhost"}


@pytest.fixture
async def app(sqlite_template: Any, tmp_path: Any) -> AsyncIterator[Quart]:
    (tmp_path / "app.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    app = create_test_app(
        {"ENVIRONMENT": "testing", "DATABASE_URL": url, "CONSUMER": "0", "TRUSTED_PROXIES": "127.0.0.1"}
    )
    add_sockets(app)
    async with app.test_app():
        yield app


def add_sockets(app: Quart) -> None:
    @app.websocket("/open")
    async def opened() -> None:
        principal = current_principal_or_none()
        await websocket.send(str(principal.user_id if principal else None))
        await websocket.receive()

    @app.websocket("/users")
    @require_auth()
    async def for_users() -> None:
        await websocket.send("hello")

    @app.websocket("/few")
    @rate_limit("2/minute")
    async def few() -> None:
        await websocket.send("hello")

    @app.websocket("/refuses")
    async def refuses() -> None:
        """Neither accepts nor answers."""

    @app.websocket("/closes")
    async def closes() -> None:
        await websocket.close(1008)

    @app.websocket("/fails")
    async def fails() -> None:
        raise ZeroDivisionError

    @app.websocket("/fails-late")
    async def fails_late() -> None:
        await websocket.accept(headers={"X-Own": "kept"})
        raise ZeroDivisionError


class Shaken:
    """A handshake: its status (101: accepted) and headers, and the first message, if there was one."""

    def __init__(self, status: int, headers: Headers, message: str = "") -> None:
        self.status, self.headers, self.message = status, headers, message


class Closed(Exception):
    """The server has closed the connection."""


async def shake(app: Quart, path: str, headers: dict[str, str] | None = None) -> Shaken:
    accepted: list[Any] = []
    connection: Any = app.test_client(use_cookies=False).websocket(path, headers=headers)
    send = connection._asgi_send

    async def recorded(message: Any) -> None:
        if message["type"] == "websocket.accept":
            accepted.extend(message["headers"])
        if message["type"] == "websocket.close":
            # Quart's client of 0.23 would wait on; that of 0.22 raises an error of its own.
            await connection._receive_queue.put(Closed())
        await send(message)

    connection._asgi_send = recorded
    message = ""
    try:
        async with connection:
            message = str(await connection.receive())
    except WebsocketResponseError as error:
        return Shaken(error.response.status_code, error.response.headers)
    except Closed:
        pass
    return Shaken(101 if connection.accepted else 0, Headers([(k.decode(), v.decode()) for k, v in accepted]), message)


async def test_the_principal_of_a_websocket(app: Quart) -> None:
    client = Client(app)
    ann = await client.registered("ann")
    assert (await shake(app, "/open")).message == "None"
    assert (await shake(app, "/open", dict(ann.headers))).message == str(ann.user_id)
    assert (await shake(app, "/users")).status == 401
    assert (await shake(app, "/users", {"X-Session-ID": "junk"})).status == 401
    assert (await shake(app, "/users", {"API-Key": "a", "Authorization": "Bearer b"})).status == 400
    assert (await shake(app, "/users", dict(ann.headers))).message == "hello"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 101),
        (ORIGIN, 101),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"} | ORIGIN, 403),
        ({"Sec-Fetch-Site": "same-origin"} | ORIGIN, 101),
        ({"Cookie": "quartet=junk"}, 403),
        ({"Cookie": "quartet=junk"} | ORIGIN, 101),
        # No page can send this header, whatever its origin.
        ({"Origin": "http://evil.example", "API-Key": "junk"}, 101),
    ],
)
async def test_other_sites_pages_open_no_websocket(app: Quart, headers: dict[str, str], status: int) -> None:
    assert (await shake(app, "/few", headers)).status == status


async def test_the_host_of_a_websocket(app: Quart) -> None:
    assert (await shake(app, "/open", {"Host": "evil.example"})).status == 400
    assert (await shake(app, "/open", {"Host": "localhost"})).status == 101


async def test_a_websocket_that_there_is_not(app: Quart) -> None:
    shaken = await shake(app, "/nowhere")
    assert (shaken.status, shaken.headers["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/open", 101), ("/users", 401), ("/nowhere", 404), ("/refuses", 403), ("/fails", 500), ("/fails-late", 101)],
)
async def test_headers_and_log_line_of_a_handshake(
    app: Quart, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    with caplog.at_level(logging.INFO, logger="app.requests"):
        shaken = await shake(app, path, {"X-Request-ID": "a-request-of-mine"})
    assert shaken.status == status
    assert shaken.headers["X-Request-ID"] == "a-request-of-mine"
    assert shaken.headers["X-Content-Type-Options"] == "nosniff"
    assert (shaken.headers.get("X-Own") == "kept") == (path == "/fails-late")
    [line] = [vars(record) for record in caplog.records if record.name == "app.requests"]
    route = "unmatched" if status == 404 else path
    assert (line["method"], line["route"], line["status"]) == ("GET", route, status)


async def test_a_close_before_the_acceptance_has_its_line_too(app: Quart, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="app.requests"):
        assert (await shake(app, "/closes")).status == 0
    [line] = [vars(record) for record in caplog.records if record.name == "app.requests"]
    assert (line["route"], line["status"]) == ("/closes", 403)


async def test_the_limits_of_a_websocket(app: Quart) -> None:
    shaken = [await shake(app, "/few") for _ in range(3)]
    assert [each.status for each in shaken] == [101, 101, 429]
    assert [each.headers["X-RateLimit-Remaining"] for each in shaken] == ["1", "0", "0"]
    assert int(shaken[2].headers["Retry-After"]) >= 1
    # The default of the application holds as for any other route.
    assert (await shake(app, "/open")).headers["X-RateLimit-Limit"] == "1200"


async def test_a_browsers_session_in_a_websocket(app: Quart) -> None:
    ann = await Client(app).registered("ann")
    resources: Resources = app.extensions[EXTENSION]
    record = await resources.sessions.create({}, channel="cookie", user_id=ann.user_id)
    cookie = {"Cookie": f"{app.config['SESSION_COOKIE_NAME']}={record.id}"}
    assert (await shake(app, "/open", cookie | ORIGIN)).message == str(ann.user_id)
    assert (await shake(app, "/users", cookie | ORIGIN)).message == "hello"
    assert (await shake(app, "/users", cookie | {"Origin": "http://evil.example"})).status == 403
