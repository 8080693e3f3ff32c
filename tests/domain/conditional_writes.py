"""What If-Match and If-None-Match demand of a write: for the tests of each resource that is read with an ETag."""

import asyncio
from typing import Any, cast

import pytest
from quart import Response
from werkzeug.datastructures import Headers

from tests.domain.client import Client

STALE = '"0123"'


async def _send(by: Client, method: str, path: str, body: Any, *headers: tuple[str, str]) -> int:
    """With lines of a header that may have the same name."""
    lines = Headers([*by.headers.items(), *headers])
    options = {"json": body} if body is not None else {}
    answer = await by.app.test_client(use_cookies=False).open(
        f"/api/v1{path}", method=cast(Any, method), headers=lines, **options
    )
    return answer.status_code


async def _made(by: Client, collection: str, body: Any) -> tuple[str, str]:
    """The path of a new one, and its ETag."""
    created: Response = await by.post(collection, body)
    assert created.status_code == 201
    path = f"{collection}/{(await created.get_json())['id']}"
    return path, (await by.get(path)).headers["ETag"]


async def assert_writes_keep_to_conditions(by: Client, collection: str, body: Any, subtests: pytest.Subtests) -> None:
    path, etag = await _made(by, collection, body)
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
                assert await _send(by, method, path, body if method == "PUT" else None, *headers) == 412
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
            assert await _send(by, "PUT", path, body, *filled) == 200
    now = (await by.get(path)).headers["ETag"]
    # Several lines of a header are one list when it reads, too.
    assert await _send(by, "GET", path, None, ("If-None-Match", STALE), ("If-None-Match", now)) == 304
    assert await _send(by, "GET", path, None, ("If-Match", STALE), ("If-Match", now)) == 200
    assert await _send(by, "DELETE", path, None, ("If-Match", now)) == 204
    # What is not there has no state: the condition does not count (RFC 9110, 13.2.1).
    assert await _send(by, "PUT", path, body, ("If-Match", now)) == 404


async def assert_one_of_concurrent_edits(by: Client, collection: str, body: Any, changed: Any) -> None:
    """Of edits of one state at the same time one is carried out."""
    path, etag = await _made(by, collection, body)
    statuses = await asyncio.gather(*(_send(by, "PUT", path, changed, ("If-Match", etag)) for _ in range(8)))
    assert sorted(statuses) == [200] + [412] * 7


async def assert_documented(by: Client, path: str) -> None:
    document = await (await by.app.test_client().get("/openapi.json")).get_json()
    for method in ("put", "delete"):
        operation = document["paths"][f"/api/v1{path}"][method]
        headers = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert {"If-Match", "If-None-Match"} <= headers
        assert "412" in operation["responses"]
