"""The CSRF rule: which unsafe requests are taken for the site's own."""

from collections.abc import AsyncIterator

import pytest
from quart import Quart, Response

from app.kit.keys import Keys
from tests.web.identity.session_app import session_app, store_on_nothing

UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
COOKIE = {"Cookie": "quartet=junk"}

ALLOWED: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin"} | COOKIE,
    {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    {"Origin": "http://site.example"} | COOKIE,
    {"Origin": "https://site.example"} | COOKIE,
    {"Origin": "https://SITE.example"},
    {},
    {"Cookie": "other=1"},
]
REFUSED: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "junk"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://site.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://site.example.evil.example"},
    {"Origin": "http://site.example:8080"},
    {"Origin": "http://sub.site.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "site.example"},
    COOKIE,
]


@pytest.fixture
async def app(keys: Keys) -> AsyncIterator[Quart]:
    async with store_on_nothing(keys) as store:
        yield with_view(session_app(store))


def with_view(app: Quart) -> Quart:
    async def view() -> str:
        return "done"

    app.add_url_rule("/", "view", view, methods=["GET", "HEAD", *UNSAFE])
    return app


async def status(app: Quart, method: str, headers: dict[str, str]) -> int:
    send = getattr(app.test_client(use_cookies=False), method.lower())
    response: Response = await send("/", headers={"Host": "site.example", **headers})
    return response.status_code


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("headers", ALLOWED)
async def test_own_requests_pass(app: Quart, method: str, headers: dict[str, str]) -> None:
    assert await status(app, method, headers) == 200


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("headers", REFUSED)
async def test_foreign_requests_are_refused(app: Quart, method: str, headers: dict[str, str]) -> None:
    assert await status(app, method, headers) == 403


@pytest.mark.parametrize("credential", ["X-Session-ID", "Authorization", "API-Key"])
@pytest.mark.parametrize("headers", REFUSED)
async def test_a_header_credential_exempts(app: Quart, credential: str, headers: dict[str, str]) -> None:
    assert await status(app, "POST", headers | {credential: "x"}) == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("headers", REFUSED)
async def test_safe_methods_are_never_refused(app: Quart, method: str, headers: dict[str, str]) -> None:
    assert await status(app, method, headers) == 200


async def test_a_port_belongs_to_the_origin(app: Quart) -> None:
    host = {"Host": "127.0.0.1:8000"}
    assert await status(app, "POST", host | {"Origin": "http://127.0.0.1:8000"}) == 200
    assert await status(app, "POST", host | {"Origin": "http://127.0.0.1:9000"}) == 403


async def test_a_refusal_says_why(app: Quart) -> None:
    response = await app.test_client().post("/", headers={"Origin": "http://evil.example"})
    assert response.content_type == "application/problem+json"
    assert (await response.get_json())["status"] == 403


async def test_at_the_public_host_an_origin_has_the_public_scheme(app: Quart) -> None:
    """A page of http://, which anybody on the way may have written, is no page of a site that has TLS."""
    app.config["PUBLIC_URL"] = "https://site.example"
    for cookie in ({}, COOKIE):
        assert await status(app, "POST", {"Origin": "https://site.example"} | cookie) == 200
        assert await status(app, "POST", {"Origin": "http://site.example"} | cookie) == 403
    other = {"Host": "internal.example"}
    assert await status(app, "POST", other | {"Origin": "http://internal.example"}) == 200
    app.config["PUBLIC_URL"] = "http://site.example"
    assert await status(app, "POST", {"Origin": "https://site.example"}) == 403
