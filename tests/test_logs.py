"""What a log line holds, and what it never holds; for machines and for people."""

import json
import logging
import pickle
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from app import logs
from app.kit.sessions.record import new_id
from app.log_redaction import LONGEST_TEXT
from tests.commands import quartet

ANY = logging.getLogger("library")


class Lines(logging.Handler):
    """The lines as they are written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.written: list[str] = []
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


@pytest.fixture
def as_json() -> Iterator[Lines]:
    yield from _listening(logs.make_formatter(is_production=True))


@pytest.fixture
def as_text() -> Iterator[Lines]:
    yield from _listening(logs.make_formatter(is_production=False))


def _listening(formatter: logging.Formatter) -> Iterator[Lines]:
    handler = Lines(pickle.loads(pickle.dumps(formatter)))  # noqa: S301  made here
    handler.addFilter(logs.FieldsFilter(lambda: {"request_id": "a-request", "trace_id": None}))
    ANY.addHandler(handler)
    level, ANY.propagate = ANY.level, False
    ANY.setLevel(logging.INFO)
    yield handler
    ANY.removeHandler(handler)
    ANY.setLevel(level)
    ANY.propagate = True


def raised(action: Any) -> None:
    try:
        action()
    except Exception:
        ANY.exception("it failed")


def test_a_line_for_machines(as_json: Lines) -> None:
    ANY.warning("the %s is full", "disk", extra={"task_id": "t1", "level": 3, "at": {1: (1, b"x")}})
    ANY.info("seen", extra={"request_id": "its own"})
    first, second = map(json.loads, as_json.written)
    assert datetime.fromisoformat(first.pop("timestamp")).utcoffset() is not None
    assert first == {
        "level": "warning",
        "logger": "library",
        "event": "the disk is full",
        "request_id": "a-request",
        "task_id": "t1",
        "level_": 3,
        "at": {"1": [1, "b'x'"]},
    }
    assert second["request_id"] == "its own"


def test_an_exception_is_one_line_of_json(as_json: Lines) -> None:
    def fail() -> None:
        secret_of_the_frame = "value-of-a-local"
        raise ValueError(f"\x1b[31mtwo\nlines {len(secret_of_the_frame)}")

    raised(fail)
    [line] = as_json.written
    assert line.count("\n") == 0
    assert "ValueError" in json.loads(line)["exception"]
    assert "value-of-a-local" not in line.replace('secret_of_the_frame = \\"value-of-a-local', "")


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "\ud800"},
        {"a": {"b": {"c": {"d": {"e": 1}}}}},
        {"a": object()},
        {"a": {(1,): float("nan")}},
        {"a": 1 << 99},
    ],
)
def test_no_field_breaks_the_line(as_json: Lines, as_text: Lines, fields: dict[str, Any]) -> None:
    ANY.info("odd", extra=fields)
    cycle: list[Any] = []
    cycle.append(cycle)
    ANY.info("odd", extra={"a": cycle})
    misused = logging.makeLogRecord({"msg": "%d is %s", "args": ("no number",)})
    assert json.loads(logs.JSONFormatter().format(misused))["event"] == "%d is %s (its arguments do not fit)"
    for line in as_json.written:
        assert json.loads(line)["event"]
    assert len(as_json.written) == len(as_text.written) == 2
    assert all("\n" not in line for line in as_text.written)


class Mute:
    """An object that fails to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_no_object_and_no_exception_breaks_the_line(as_json: Lines, as_text: Lines) -> None:
    # Of no other handler, which would break.
    own = logging.Logger("own")
    own.handlers = [as_json, as_text]
    own.info(Mute())
    own.info("%s", Mute())
    own.info("a", extra={"b": Mute(), "c": {Mute(): [Mute()]}, "\ud800": 1, "d": 10**5000})
    for error in (ValueError("\x1b[31m\ud800\x9b"), ExceptionGroup("many", [ValueError(Mute())] * 1000)):
        own.error("it failed", exc_info=error)
    own.info("a", stack_info=True)
    assert len(as_json.written) == len(as_text.written) == 6
    for line in as_json.written:
        assert "\n" not in line
        assert json.loads(line)["level"]
    for line in as_text.written:
        assert all(part.isprintable() for part in line.split("\n")), line


def test_a_line_for_people(as_text: Lines) -> None:
    ANY.warning("a\x1b[2J \u202e\nb", extra={"path": "/\r\n\x07"})
    [line] = as_text.written
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ", line)
    assert "a\\x1b[2J \\u202e\\nb" in line
    assert "request_id=a-request" in line
    assert line.isprintable()
    coloured = logs.ConsoleFormatter(colors=True).format(logging.makeLogRecord({"msg": "b", "levelname": "INFO"}))
    assert "\x1b[" in coloured


class Body(BaseModel):
    age: int


def _bad_statement() -> None:
    row = "ada@" + "example.com"
    raise RuntimeError(f"duplicate key\nDETAIL:  Key (email)=({row}) already exists.\n[parameters: ({row!r},)]")


SESSION = new_id("abc")
JWT = "eyJhbGciOiJIUzI1NiJ9"
ROW = "ada@" + "example.com"


@dataclass
class Account:
    name: str
    password: str


# What is logged, and what no line may hold of it.
SAID: dict[str, tuple[str, Callable[[], object]]] = {
    "session": (SESSION, lambda: ANY.info("session %s ends", SESSION)),
    "key": (f"qk_{SESSION[4:]}", lambda: ANY.info("key", extra={"of": [{"x": f"qk_{SESSION[4:]}"}]})),
    "bearer": (JWT, lambda: ANY.info(f"Bearer {JWT}.e30.abcdefghijklmnopqrst is not valid")),
    "field": (
        "a-word",
        lambda: ANY.info("x", extra={"password": "a-word", "Set-Cookie": ["a-word"], "body": "a-word"}),
    ),
    "object": (
        "a-word",
        lambda: ANY.info("x", extra={"account": Account("Ada", "a-word"), "more": [Account("", "a-word")]}),
    ),
    "input": ("".join(("ye", "ars")), lambda: raised(lambda: Body.model_validate({"age": "ye" + "ars"}))),
    "row": (ROW, lambda: raised(_bad_statement)),
    **{
        text: ("hunter2", partial(ANY.info, text))
        for text in (
            "redis://:hunter2@cache and postgresql+asyncpg://u:hunter2@db/x",
            "redis://:p@hunter2@cache:1/0, rediss://u:a/hunter2/b@cache, redis+sentinel://:hunter2@a:1,b:2/main",
            "HTTP Request: GET https://api.example/x?page=1&access_token=hunter2&z=1",
            "https://a.example/reset?token=hunter2#top",
            "postgresql://db/x?user=u&password=hunter2 refused",
            "connect(host='db', password='hunter2 hunter2', port=1)",
            """{'user': 'ada', 'password': 'hunter2'} {"refresh_token": "hunter2"} {\\"secret\\": \\"hunter2\\"}""",
            "[(b'host', b'x'), (b'authorization', b'Basic hunter2'), (b'cookie', b'quartet=hunter2; a=b')]",
            "Cookie: quartet=hunter2; other=hunter2",
            "authorization: Digest username=hunter2, response=hunter2",
            "the header X-Session-ID: hunter2",
            "SECRET_KEY=hunter2 METRICS_TOKEN=hunter2 python -m app",
        )
    },
}


@pytest.mark.parametrize("as_exception", [False, True])
@pytest.mark.parametrize("said", SAID)
def test_secrets_and_bodies_are_in_no_line(as_json: Lines, as_text: Lines, said: str, as_exception: bool) -> None:
    secret, say = SAID[said]
    if as_exception:
        raised(partial(_raise, said))
    else:
        say()
    for line in (*as_json.written, *as_text.written):
        assert secret not in line
        assert "***" in line or as_exception


def _raise(text: str) -> None:
    raise ValueError(text) from OSError(text)


async def test_what_httpx_logs_of_a_request_has_no_token(as_json: Lines) -> None:
    logging.getLogger("httpx").addHandler(as_json)
    logging.getLogger("httpx").setLevel(logging.INFO)
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("https://user:hunter2@mail.example/send?api_key=hunter2")
    logging.getLogger("httpx").removeHandler(as_json)
    assert "mail.example/send" in as_json.written[0]
    assert "hunter2" not in as_json.written[0]


@pytest.mark.parametrize(
    "text", ["input_value=", "://a:", "://a:@", "token=", "'token': ", "a" * 20 + ".", "DETAIL: ", "\n"]
)
def test_a_long_text_is_cut_and_takes_little(as_json: Lines, text: str) -> None:
    """Steps, not time: each pattern looks at a text once or so, which a text of ten times the length would show."""
    began = time.process_time()
    ANY.info("%s", text * (1_000_000 // len(text)))
    ANY.info("x", extra={"items": list(range(100_000)), "deep": [[[[text * 100_000]]]]})
    # A pattern that goes back and forth over the text would take minutes.
    assert time.process_time() - began < 5
    for line in as_json.written:
        assert len(line) < 8 * LONGEST_TEXT


def test_what_is_no_secret_stays(as_json: Lines) -> None:
    for text in (
        "GET /articles/a-title-of-some-length-that-reads-well 200, 12.3 ms, redis://cache:6379/0, a@b.example",
        "GET http://127.0.0.1:8000/users/ada@example.com?page=2",
        "the session is over, a new token is needed: sign in",
    ):
        ANY.info(text)
        assert json.loads(as_json.written.pop())["event"] == text


SCRIPT = """\
import logging, warnings, structlog
warnings.warn("old")
logging.getLogger("sqlalchemy").error("hm")
structlog.get_logger("mine").info("ho", n=1)
"""


@pytest.mark.parametrize("production", [True, False])
def test_the_command_and_every_library_log_alike(tmp_path: Path, production: bool) -> None:
    given = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "k" * 32,
        "METRICS_TOKEN": "t" * 16,
        "ALLOW_EMBEDDED_REDIS": "1",
    }
    given["PUBLIC_URL"] = "https://a.example"
    (tmp_path / ".env").write_text("LOG_LEVL=info\n")
    done = quartet(tmp_path, "shell", input=SCRIPT, **(given if production else {}))
    assert done.returncode == 0, done.stderr
    # Without the prompt's marks.
    lines = [line.replace(">>> ", "") for line in done.stderr.splitlines() if line.strip("> ")]
    if production:
        found = [json.loads(line) for line in lines]
        assert [line["logger"] for line in found] == ["app.cli", "py.warnings", "sqlalchemy", "mine"]
        assert (found[3]["event"], found[3]["n"]) == ("ho", 1)
    else:
        assert "\x1b" not in done.stderr
        assert [re.findall(r"\[([\w.]+)\]", line)[-1] for line in lines] == [
            "app.cli",
            "py.warnings",
            "sqlalchemy",
            "mine",
        ]
