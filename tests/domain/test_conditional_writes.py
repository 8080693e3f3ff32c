"""What If-Match and If-None-Match demand of a write, on each resource that is read with an ETag."""

import asyncio
from typing import Any, cast

import pytest
from quart import Quart, Response
from werkzeug.datastructures import Headers

from app.resources import Resources
from tests.domain.client import Client
from tests.domain.products.catalogue import FIELDS, category, editor

STALE = '"0123"'


@pytest.fixture(params=["/articles", "/products"])
async def resource(request: pytest.FixtureRequest, client: Client, resources: Resources) -> tuple[Client, str, Any]:
    """Who may write it, its collection and its body."""
    by = await editor(client, resources)
    if request.param == "/articles":
        return by, request.param, {"title": "Title", "content": "Text."}
    return by, request.param, FIELDS | {"category_id": await category(by)}


async def send(by: Client, method: str, path: str, body: Any, *headers: tuple[str, str]) -> int:
    """With lines of a header that may have the same name."""
    lines = Headers([*by.headers.items(), *headers])
    options = {"json": body} if body is not None else {}
    answer = await by.app.test_client(use_cookies=False).open(
        f"/api/v1{path}", method=cast(Any, method), headers=lines, **options
    )
    return answer.status_code


async def made(by: Client, collection: str, body: Any) -> tuple[str, str]:
    """The path of a new one, and its ETag."""
    created: Response = await by.post(collection, body)
    assert created.status_code == 201
    path = f"{collection}/{(await created.get_json())['id']}"
    return path, (await by.get(path)).headers["ETag"]


async def test_a_write_keeps_to_its_conditions(resource: tuple[Client, str, Any], subtests: pytest.Subtests) -> None:
    by, collection, body = resource
    path, etag = await made(by, collection, body)
    refused: list[list[tuple[str, str]]] = [
        [("If-Match", STALE)],
        [("If-Match", f"W/{etag}")],
        [("If-Match", "")],
        [("If-Match", "nonsense")],
        [("If-Match", '"", W/""')],
        [("If-None-Match", "*")],
        [("If-None-Match", etag)],
        [("If-None-Match", f"{STALE}, W/{etag}")],
        [("If-None-Match", STALE), ("If-None-Match", etag)],
        [("If-Match", etag), ("If-None-Match", etag)],
    ]
    for headers in refused:
        for method in ("PUT", "DELETE"):
            with subtests.test(f"{method} {headers}"):
                assert await send(by, method, path, body if method == "PUT" else None, *headers) == 412
    assert (await by.get(path)).headers["ETag"] == etag
    allowed: list[list[tuple[str, str]]] = [
        [("If-Match", "*")],
        [("If-Match", "{etag}")],
        [("If-Match", f"{STALE}, {{etag}}")],
        [("If-Match", STALE), ("If-Match", "{etag}")],
        [("If-None-Match", STALE)],
        [("If-None-Match", "")],
        [("If-None-Match", '"", W/""')],
        [("If-Match", "{etag}"), ("If-None-Match", STALE)],
    ]
    for headers in allowed:
        now = (await by.get(path)).headers["ETag"]
        with subtests.test(f"PUT {headers}"):
            filled = [(name, value.format(etag=now)) for name, value in headers]
            assert await send(by, "PUT", path, body, *filled) == 200
    now = (await by.get(path)).headers["ETag"]
    # Several lines of a header are one list when it reads, too.
    assert await send(by, "GET", path, None, ("If-None-Match", STALE), ("If-None-Match", now)) == 304
    assert await send(by, "GET", path, None, ("If-Match", STALE), ("If-Match", now)) == 200
    assert await send(by, "DELETE", path, None, ("If-Match", now)) == 204
    # What is not there has no state: the condition does not count (RFC 9110, 13.2.1).
    assert await send(by, "PUT", path, body, ("If-Match", now)) == 404


async def test_of_concurrent_edits_of_one_state_one_is_carried_out(resource: tuple[Client, str, Any]) -> None:
    by, collection, body = resource
    path, etag = await made(by, collection, body)
    changed = {name: f"{value}!" if name in ("title", "name") else value for name, value in body.items()}
    statuses = await asyncio.gather(*(send(by, "PUT", path, changed, ("If-Match", etag)) for _ in range(8)))
    assert sorted(statuses) == [200] + [412] * 7


async def test_the_document_names_the_conditions(app: Quart, client: Client) -> None:
    document = await (await app.test_client().get("/openapi.json")).get_json()
    named = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "If-Match" in {each["name"] for each in operation.get("parameters", ()) if each["in"] == "header"}
    }
    assert named == {
        (method, f"/api/v1/{each}")
        for each in ("articles/{article_id}", "products/{product_id}")
        for method in ("put", "delete")
    }
