"""Bodies that no honest client sends: what is read of them, when, and how much is answered."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from quart import Quart, request

from app.domain import fields
from app.domain.users.login_limit import LIMIT
from app.errors import MOST_LISTED
from app.web.middleware import bounded_form
from app.web.middleware.strict_json import MOST_BYTES_TO_SHOW, StrictRequest
from app.web.problems import field_errors
from tests.domain.test_hostile_requests import generated
from tests.raw_requests import Door, exchange

URLENCODED = (b"content-type", b"application/x-www-form-urlencoded")
MULTIPART = (b"content-type", b"multipart/form-data; boundary=b")
JSON = (b"content-type", b"application/json")
LOGIN = b"/api/v1/login"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read of each body: "form" or "data"."""
    found: list[str] = []

    def spied(name: str, kind: str) -> None:
        method = getattr(StrictRequest, name)

        async def spy(self: StrictRequest, *args: Any, **kwargs: Any) -> Any:
            found.append(kind)
            return await method(self, *args, **kwargs)

        monkeypatch.setattr(StrictRequest, name, spy)

    spied("_load_form_data", "form")
    spied("get_data", "data")
    return found


def unsafe_routes(app: Quart) -> list[tuple[str, bytes]]:
    """Each unsafe method of each route, with a path of it."""
    values: dict[str, Any] = {"name": "x", "handle": "x", "channel": "x", "action": "purge"}
    adapter = app.url_map.bind("localhost")
    return [
        (method, adapter.build(rule.endpoint, {name: values.get(name, 1) for name in rule.arguments}, method).encode())
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) & set(UNSAFE))
    ]


def test_no_route_of_the_api_parses_a_form(door: Door, read: list[str]) -> None:
    """They take JSON. A form costs the loop time for each of its bytes; only the pages' own routes take one."""
    routes = [(method, path) for method, path in unsafe_routes(door.app) if path.startswith(b"/api/")]
    assert len(routes) > 10
    for (method, path), kind in itertools.product(routes, (URLENCODED, MULTIPART)):
        door.send(path, method=method, headers=[kind], body=b"%" * 1000)
        assert read == [], path


def test_a_limited_address_has_no_form_read(door: Door, read: list[str]) -> None:
    """The page's login takes a form. It shows a short one again, which costs little; not a long one."""
    body = b"email=ada%40example.com&password=wrong&x=" + b"%" * MOST_BYTES_TO_SHOW
    headers = [URLENCODED, (b"content-length", b"%d" % len(body))]
    options: dict[str, Any] = {"method": "POST", "headers": headers, "body": body, "client": "198.51.100.6"}
    allowed = int(LIMIT.partition("/")[0])
    for _ in range(allowed):
        assert door.send(b"/login", **options, has_page=True).status < 429
    read.clear()
    assert door.send(b"/login", **options, has_page=True).status == 429
    assert read == []


def test_a_limited_address_has_no_body_read(door: Door, read: list[str]) -> None:
    body = json.dumps({"email": "ada@example.com", "password": "wrong"}).encode()
    options: dict[str, Any] = {"method": "POST", "headers": [JSON], "body": body, "client": "198.51.100.7"}
    allowed = int(LIMIT.partition("/")[0])
    assert [door.send(LOGIN, **options).status for _ in range(allowed)] == [401] * allowed
    read.clear()
    assert door.send(LOGIN, **options).status == 429
    assert read == []


def test_a_limited_account_gives_the_address_its_slot_back(door: Door) -> None:
    """A refused request takes from no limit, though the two are checked one after the other."""
    options: dict[str, Any] = {"method": "POST", "headers": [JSON]}
    allowed = int(LIMIT.partition("/")[0])

    def log_in(email: str, client: str) -> int:
        body = json.dumps({"email": email, "password": "wrong"}).encode()
        return door.send(LOGIN, body=body, client=client, **options).status

    assert [log_in("ada@example.com", f"198.51.100.{n}") for n in range(allowed)] == [401] * allowed
    assert [log_in("ada@example.com", "198.51.100.9") for _ in range(allowed)] == [429] * allowed
    assert log_in("bob@example.com", "198.51.100.9") == 401


def test_what_is_malformed_counts_as_a_login(door: Door) -> None:
    options: dict[str, Any] = {"method": "POST", "headers": [JSON], "client": "198.51.100.8"}
    allowed = int(LIMIT.partition("/")[0])
    bodies = itertools.islice(itertools.cycle([b"{", b"[1]", b"\xff", b'{"email": 1}']), allowed)
    assert all(door.send(LOGIN, body=body, **options).status in (400, 422) for body in bodies)
    assert door.send(LOGIN, body=b"{", **options).status == 429


@given(
    names=st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=60),
    email=st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers(), max_size=3)),
)
@generated
def test_errors_are_bounded_and_counted(door: Door, names: list[str], email: object) -> None:
    unknown = {name for name in names if name not in ("email", "name", "password")}
    body = json.dumps({**dict.fromkeys(unknown, 1), "email": email}).encode(errors="replace")
    answer = door.send(b"/api/v1/users", method="POST", headers=[JSON], body=body)
    if answer.status == 400:
        assert "\\ud" in body.decode()  # a lone surrogate
        return
    found = answer.json()
    assert answer.status == 422
    assert len(found["errors"]) <= MOST_LISTED
    # Beside the unknown fields: the two that are missing, and the address.
    assert len(found["errors"]) + found.get("more_errors", 0) - len(unknown) in (2, 3)


def test_a_body_of_errors_has_a_small_answer(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []

    def counting(error: ValidationError) -> list[dict[str, Any]]:
        listed.append(error.error_count())
        return field_errors(error)

    monkeypatch.setattr(fields, "field_errors", counting)
    body = json.dumps({f"field{number}": 1 for number in range(50_000)}).encode()
    answer = door.send(b"/api/v1/users", method="POST", headers=[JSON], body=body)
    assert (answer.status, answer.json()["more_errors"]) == (422, 50_003 - MOST_LISTED)
    assert len(answer.body) < 4000
    # An error for each field would cost more than the body itself.
    assert listed == [MOST_LISTED + 3]
    body = json.dumps({"x" * 900_000: 1}).encode()
    assert len(door.send(b"/api/v1/users", method="POST", headers=[JSON], body=body).body) < 4000


FIELDS = st.lists(st.sampled_from(["a=1", "&", "%", "%41", "=", "é", "x" * 1000]), max_size=150).map("".join)


async def form_app() -> Quart:
    app = Quart(__name__)
    app.request_class = StrictRequest

    @app.post("/")
    async def view() -> str:
        return str(len(list((await request.form).items(multi=True))))

    return app


@given(text=FIELDS)
@generated
def test_a_form_is_bounded_by_bytes_and_fields(door: Door, text: str) -> None:
    app = door.run(form_app())
    body = text.encode()
    answer = door.run(exchange(app, b"/", method="POST", headers=[URLENCODED], body=body))
    if len(body) > bounded_form.MOST_BYTES or text.count("&") >= bounded_form.MOST_FIELDS:
        assert answer.status == 413
    else:
        assert (answer.status, answer.body) == (200, str(sum(map(bool, text.split("&")))).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"%" * 1_000_000,
        b"a=&" * 300_000,
        b"".join(b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' for _ in range(1000)) + b"--b--",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="x"' + b";a=b" * 25_000 + b"\r\n\r\n\r\n--b--",
        b"--b\r\n" + b"A:" * 50_000,
        b'--b\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--",
    ],
    ids=lambda body: f"{body[:12]!r} {len(body)}",
)
def test_a_form_out_of_bounds_is_413(door: Door, body: bytes) -> None:
    app = door.run(form_app())
    kind = MULTIPART if body.startswith(b"--b") else URLENCODED
    assert door.run(exchange(app, b"/", method="POST", headers=[kind], body=body)).status == 413


def test_a_multipart_form_within_bounds_is_read(door: Door) -> None:
    app = door.run(form_app())
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
    body = b"".join(part + b"1\r\n" for _ in range(3)) + b"--b--\r\n"
    assert door.run(exchange(app, b"/", method="POST", headers=[MULTIPART], body=body)).body == b"3"
