"""What the texts in a path hold, for a client that may ask for everything."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quart import Quart
from quart.wrappers.request import Body

from app.domain.users.service import register_user
from app.resources import Resources
from app.web.context import EXTENSION
from tests.domain.test_hostile_requests import ROUTES, generated
from tests.raw_requests import Door

JSON = (b"content-type", b"application/json")
UNLIMITED = itertools.count(1)


async def session_of_an_admin(app: Quart) -> bytes:
    """Each request has an account of its own, which no limit has counted."""
    resources: Resources = app.extensions[EXTENSION]
    email = f"admin{next(UNLIMITED)}@example.org"
    user = await register_user(resources, email=email, name="A", password="correct horse", roles=["admin"])
    return (await resources.sessions.create({}, channel="header", user_id=user.id)).id.encode()


def paths(app: Quart, text: str) -> list[tuple[str, bytes]]:
    """Each method of each route with a text in its path, with `text` for every one."""
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    return [
        (method, re.sub("<[^>]*>", lambda found: "1" if "int" in found[0] else quoted, rule.rule).encode())
        for rule in app.url_map.iter_rules()
        if not rule.websocket and re.search("<[^:>]*>", rule.rule)
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


@given(text=st.text(min_size=1, max_size=20))
@example(text="\0")
@example(text="1\0")
@example(text="{user}:*")
@example(text="x" * 5000)
@settings(generated, max_examples=20)
def test_whatever_a_path_holds(door: Door, text: str) -> None:
    session = (b"x-session-id", door.run(session_of_an_admin(door.app)))
    asked = paths(door.app, text)
    assert len(asked) > 5
    for method, path in asked:
        answer = door.send(path, method="HEAD" if path.endswith(b"/events") else method, headers=[session])
        assert answer.status != 429
        if "\0" in text:
            assert answer.status == 404, path


@pytest.mark.parametrize("route", [route for route in ROUTES if route[0] in ("GET", "HEAD")], ids=repr)
def test_the_body_of_a_get_is_not_kept(door: Door, route: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """An event stream would hold it for as long as it lasts."""
    kept: list[int] = []
    append = Body.append

    def counting(self: Body, data: bytes) -> None:
        kept.append(len(data))
        append(self, data)

    monkeypatch.setattr(Body, "append", counting)
    method, target = route
    options: dict[str, Any] = {"headers": [JSON, (b"content-length", b"5000")], "body": b"x" * 5000}
    plain = door.send(target, method=method)
    assert door.send(target, method=method, **options).status == plain.status
    assert sum(kept) == 0
    door.send(b"/api/v1/users", method="POST", **options)
    assert sum(kept) == 5000
