"""Each refusal is problem details (RFC 9457): of every route by every method, of what is no route, and of sockets."""

import re
from collections import Counter
from typing import Any

import pytest
from quart import Quart, Response
from quart.testing.connections import WebsocketResponseError

from app.domain.users.models import User
from app.resources import Resources
from tests.domain.client import Client

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE")
# These are pages: a refusal shows the form again, as HTML.
PAGES = re.compile(r"/(login|logout|register|password-reset(/confirm)?|inbox|reports|console)$")
NO_ROUTES = ("/nothing", "/api/v1/nothing", "/api/v1/users/0x1", "/static/nothing.js", "/static/../app.py", "/docs/x")
# What is sent with an unsafe method: nothing, no JSON, broken JSON, and JSON that does not validate.
BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"data": "a=b", "headers": {"Content-Type": "text/plain"}},
    {"data": "{", "headers": {"Content-Type": "application/json"}},
    {"json": {"nothing": 1}},
)


async def check(response: Response, what: str) -> None:
    assert response.status_code < 500, what
    if response.status_code < 400:
        return
    assert response.content_type == "application/problem+json", what
    body = await response.get_json()
    assert body["status"] == response.status_code, what
    assert body["request_id"] == response.headers["X-Request-ID"], what
    assert all(isinstance(body[name], str) and body[name] for name in ("type", "title", "detail")), (what, body)
    for status, header in ((401, "WWW-Authenticate"), (405, "Allow"), (429, "Retry-After")):
        assert response.status_code != status or header in response.headers, what


def paths(app: Quart) -> list[str]:
    """One of each route, with an id that there is not."""
    rules = {rule.rule for rule in app.url_map.iter_rules() if not rule.websocket}
    filled = {re.sub(r"<[^>]*>", "x", re.sub(r"<int:[^>]*>", "999", rule)) for rule in rules}
    # The stream of events does not end.
    return sorted(path for path in filled if not PAGES.search(path) and path != "/api/v1/events")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
async def test_each_refusal_of_each_route_is_problem_details(app: Quart, client: Client, resources: Resources) -> None:
    admin = await client.registered()
    async with resources.database.write() as session:
        user = await session.get(User, admin.user_id)
        assert user
        user.roles = ["admin"]
    found: Counter[int] = Counter()
    for number, path in enumerate([*paths(app), *NO_ROUTES]):
        for method in METHODS:
            for body in BODIES if method in ("POST", "PUT", "PATCH") else BODIES[:1]:
                for credential in ({}, admin.headers, {"X-Session-ID": "wrong"}):
                    if path == "/api/v1/logout" or path == "/api/v1/logout-all":
                        credential = {}
                    address = {"X-Forwarded-For": f"10.1.{number}.{len(credential)}"}
                    given = {**credential, **address, **body.get("headers", {})}
                    sent = {name: value for name, value in body.items() if name != "headers"}
                    plain = app.test_client(use_cookies=False)
                    response = await plain.open(path, method=method, headers=given, **sent)
                    await check(response, f"{method} {path} {sent}")
                    found[response.status_code] += 1
    assert {400, 401, 403, 404, 405, 415, 422} <= set(found), found


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nothing", {}, 404),
        ("/api/v1/events/socket", {"Origin": "https://elsewhere.example"}, 403),
        ("/api/v1/events/socket", {"X-Session-ID": "wrong"}, 401),
        ("/api/v1/events/socket?channel=user:1", {}, 401),
        ("/api/v1/events/socket?channel=!", {}, 422),
    ],
)
async def test_a_refused_socket_is_problem_details(app: Quart, path: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client(use_cookies=False).websocket(path, headers=headers) as socket:
            await socket.receive()
    response = refused.value.response
    assert response.status_code == status
    await check(response, path)
