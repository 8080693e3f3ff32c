"""Junk in every place a client can put it: a 4xx or a fresh start, never a 500, and nothing of it in Redis' keys."""

import itertools
import json
from typing import Any, cast

import pytest
from pydantic import BaseModel, ValidationError
from quart import Quart
from quart.testing import QuartClient
from quart_schema.validation import QUART_SCHEMA_QUERYSTRING_ATTRIBUTE

from app.domain.users.service import register_user
from app.resources import Resources
from app.web.context import EXTENSION

JSON = {"Content-Type": "application/json"}
CREDENTIALS = ["X-Session-ID", "Authorization", "API-Key", "Cookie", "Last-Event-ID"]
JUNK = [
    "",
    " ",
    "x",
    "Bearer",
    "Bearer ",
    "Bearer x y z",
    "Basic dXNlcjpwYXNz",
    "quartet=",
    "quartet=../../etc/passwd",
    "quartet=" + "a" * 5000,
    "qk_" + "a" * 43,
    "{quartet:session}:id:*",
    "a*b?c[d]",
    "0-0",
    "-1",
    "9" * 400,
    "a9868fcb3244-99999999999999999999-0",
    "\x80\xff",
    "нет",
    "a" * 20_000,
]


_addresses = itertools.count()


async def assert_problem(response: Any, status: int) -> dict[str, Any]:
    """RFC 9457: the one shape of every error."""
    assert response.status_code == status, await response.get_data()
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(await response.get_data())
    assert body["status"] == status
    assert {"type", "title", "detail", "request_id"} <= set(body)
    assert response.headers["X-Request-ID"] == body["request_id"]
    return body


def address() -> dict[str, Any]:
    """A client that has asked for nothing: what one row of a table asks counts against no limit of the next."""
    number = next(_addresses)
    return {"client": (f"10.0.{number // 250}.{number % 250 + 1}", 1)}


async def test_malformed_json_is_400(client: QuartClient, subtests: pytest.Subtests) -> None:
    deep = b"[" * 100_000
    for body in (b"", b"{", b'{"email":', b"\xff\xfe", deep, b"NaN", b'{"a": 1e999}', b'{"name": "\\ud800"}', b"{} {}"):
        with subtests.test(body=body[:12]):
            asked = client.post("/api/v1/users", data=body, headers=JSON, scope_base=address())
            await assert_problem(await asked, 400)


async def test_json_that_is_no_object_is_422_or_400(client: QuartClient, subtests: pytest.Subtests) -> None:
    for body in (b"1", b'"x"', b"[]", b"null", b"true"):
        with subtests.test(body=body):
            response = await client.post("/api/v1/users", data=body, headers=JSON, scope_base=address())
            assert response.status_code in {400, 422}
            await assert_problem(response, response.status_code)


async def test_a_body_that_is_not_json_is_415(client: QuartClient, subtests: pytest.Subtests) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "junk", None):
        with subtests.test(kind=kind):
            headers = {"Content-Type": kind} if kind else {}
            asked = client.post("/api/v1/users", data=b"{}", headers=headers, scope_base=address())
            await assert_problem(await asked, 415)


async def test_a_body_over_the_limit_is_413(client: QuartClient) -> None:
    body = json.dumps({"email": "a@example.org", "name": "x" * (1 << 20), "password": "correct horse"}).encode()
    await assert_problem(await client.post("/api/v1/users", data=body, headers=JSON), 413)


async def test_every_invalid_field_is_named(client: QuartClient) -> None:
    response = await client.post("/api/v1/users", json={"email": "nobody", "password": "short", "extra": 1})
    body = await assert_problem(response, 422)
    assert {error["loc"][0] for error in body["errors"]} == {"email", "name", "password", "extra"}
    assert "short" not in json.dumps(body)


async def test_text_that_a_database_cannot_hold_is_422(client: QuartClient, subtests: pytest.Subtests) -> None:
    for text in ("a\x00b", "\x00"):
        with subtests.test(text=text):
            body = {"email": "a@example.org", "name": text, "password": "correct horse battery"}
            await assert_problem(await client.post("/api/v1/users", json=body), 422)


async def test_page_numbers_that_are_none_are_422(client: QuartClient, subtests: pytest.Subtests) -> None:
    values = ("-1", "0", "1" + "0" * 30, "x", "1.5", "", "1e3", "\x00", "٣")
    for name, value in itertools.product(("page", "per_page"), values):
        with subtests.test(name=name, value=value):
            response = await client.get("/api/v1/notices", query_string={name: value}, scope_base=address())
            body = await assert_problem(response, 422)
            assert body["errors"][0]["loc"] == [name]


def test_each_number_of_a_query_has_one_spelling(app: Quart) -> None:
    models = {getattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None) for view in app.view_functions.values()}
    numbers = [
        (model, name)
        for model in models
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
        if field.annotation is int
    ]
    assert len(numbers) >= 5
    for model, name in numbers:
        # What else a model asks for.
        others = {"q": "words"} if "q" in model.model_fields else {}
        assert model.model_validate({**others, name: "7"}) == model.model_validate({**others, name: 7})
        for spelling in ("07", "+7", " 7", "7 ", "7.0", "0_7", "7\n", "\u0667", "\uff17", "7e0"):
            with pytest.raises(ValidationError):
                model.model_validate({**others, name: spelling})


@pytest.mark.parametrize("header", CREDENTIALS)
async def test_junk_credentials_are_refused_or_a_fresh_start(
    app: Quart, header: str, subtests: pytest.Subtests
) -> None:
    resources: Resources = app.extensions[EXTENSION]
    for junk in JUNK:
        with subtests.test(junk=junk[:20]):
            await assert_refused_or_a_fresh_start(cast(QuartClient, app.test_client()), {header: junk})
            names = b" ".join([key async for key in resources.redis.scan_iter()])
            assert b"etc/passwd" not in names
            assert b"aaaaaaaaaaaaaaaa" not in names
            assert b"Basic" not in names


async def assert_refused_or_a_fresh_start(client: QuartClient, headers: dict[str, str]) -> None:
    at = address()
    for path in ("/api/v1/profile", "/api/v1/notices", "/api/v1/sessions"):
        response = await client.get(path, headers=headers, scope_base=at)
        assert response.status_code in {200, 400, 401}, path
        if path == "/api/v1/profile":
            await assert_problem(response, response.status_code)
    response = await client.post("/api/v1/logout", headers=headers, scope_base=at)
    assert 400 <= response.status_code < 500


async def test_a_junk_last_event_id_is_a_fresh_start(app: Quart, subtests: pytest.Subtests) -> None:
    for junk in JUNK:
        with subtests.test(junk=junk[:20]):
            client = cast(QuartClient, app.test_client())
            response = await client.head("/api/v1/events", headers={"Last-Event-ID": junk}, scope_base=address())
            assert response.status_code == 200
            query = {"last_event_id": junk}
            response = await client.head("/api/v1/events", query_string=query, scope_base=address())
            assert response.status_code == 200


async def test_ids_that_are_nobodys_are_404(client: QuartClient, subtests: pytest.Subtests) -> None:
    for identifier in ("0", "-1", "x", "1" + "0" * 30, str(2**31), "1.5", "%00", "1%2f2"):
        for path in ("/api/v1/users/{}", "/api/v1/users/{}/notices"):
            with subtests.test(identifier=identifier, path=path):
                await assert_problem(await client.get(path.format(identifier), scope_base=address()), 404)


async def test_an_unknown_path_and_method_have_the_one_shape(client: QuartClient) -> None:
    await assert_problem(await client.get("/nothing"), 404)
    response = await client.delete("/api/v1/notices")
    await assert_problem(response, 405)
    assert "GET" in response.headers["Allow"]


async def test_two_header_credentials_are_400(client: QuartClient) -> None:
    headers = {"X-Session-ID": "a", "API-Key": "b"}
    await assert_problem(await client.get("/api/v1/profile", headers=headers), 400)


async def test_a_foreign_host_is_400(client: QuartClient, subtests: pytest.Subtests) -> None:
    for host in ("evil.example", "127.0.0.1:8000@evil", "127.0.0.1:x", "localhost.evil", ""):
        with subtests.test(host=host):
            await assert_problem(await client.get("/health/live", headers={"Host": host}), 400)


async def test_an_event_that_is_too_large_is_413(app: Quart, client: QuartClient) -> None:
    resources: Resources = app.extensions[EXTENSION]
    user = await register_user(resources, email="a@example.org", name="A", password="correct horse", roles=["admin"])
    session = await resources.sessions.create({}, channel="header", user_id=user.id)
    headers = {"X-Session-ID": session.id}
    for size, status in ((60_000, 202), (70_000, 413)):
        event = {"channel": "broadcast", "type": "big", "data": "x" * size}
        assert (await client.post("/api/v1/events", json=event, headers=headers)).status_code == status


async def test_channels_that_are_not_ones_own_are_refused(client: QuartClient, subtests: pytest.Subtests) -> None:
    for channel in ("user:1", "task:abc", "user:*", "*", "x" * 65, "a b", "", "\x00", "BROADCAST"):
        with subtests.test(channel=channel):
            response = await client.get("/api/v1/events", query_string={"channel": channel}, scope_base=address())
            assert response.status_code in {401, 403, 422}
            await assert_problem(response, response.status_code)


async def test_static_names_that_are_no_file_are_404(client: QuartClient, subtests: pytest.Subtests) -> None:
    for name in ("a" * 400, "a\x00b", "../app.py", "%2e%2e/asgi.py", "x" * 5000, "", "no.js"):
        with subtests.test(name=name[:20]):
            await assert_problem(await client.get(f"/static/{name}"), 404)


async def test_invented_methods_make_no_metrics_of_their_own(client: QuartClient) -> None:
    for number in range(3):
        await client.open("/health/live", method=f"JUNK{number}")
    text = await (await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})).get_data(as_text=True)
    assert "JUNK" not in text
    assert 'method="other"' in text
