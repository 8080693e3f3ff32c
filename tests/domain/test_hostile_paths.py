"""What the texts in a path hold, for a client that may ask for everything."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quart import Quart
from quart.asgi import ASGIHTTPConnection

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


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the parts of bodies that Quart was given."""
    found: list[int] = []
    handle_messages = ASGIHTTPConnection.handle_messages

    async def counting(self: ASGIHTTPConnection, request: Any, receive: Any, *more: Any) -> None:
        async def counted() -> Any:
            message = await receive()
            found.append(len(message.get("body", b"")))
            return message

        await handle_messages(self, request, counted, *more)

    monkeypatch.setattr(ASGIHTTPConnection, "handle_messages", counting)
    return found


def test_the_body_of_a_get_is_dropped(door: Door, taken: list[int], subtests: pytest.Subtests) -> None:
    """An event stream would hold it for as long as it lasts."""
    for route in [route for route in ROUTES if route[0] in ("GET", "HEAD")]:
        with subtests.test(f"{ascii(route):.40}"):
            method, target = route
            plain = door.send(target, method=method)
            assert door.send(target, method=method, headers=[JSON], body=b"x" * 5000).status == plain.status
            assert sum(taken) == 0


def test_a_body_is_taken_as_far_as_it_may_be_read(door: Door, taken: list[int], subtests: pytest.Subtests) -> None:
    most: int = door.app.config["MAX_CONTENT_LENGTH"]
    for size in [0, 1, 5000]:
        with subtests.test(f"{ascii(size):.40}"):
            for length in (size, most + size, 3 * most + size):
                taken.clear()
                answer = door.send(b"/api/v1/users", method="POST", headers=[JSON], body=b"x" * length)
                assert answer.status == (413 if length > most else 400)
                assert sum(taken) == min(length, most + 1)
