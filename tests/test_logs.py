"""What a log line holds, and what it never holds; for machines and for people."""

import json
import logging
import pickle
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app import logs
from app.kit.sessions.record import new_id
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
        "at": {"1": [1, "eA=="]},
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
SAYING = {
    SESSION: lambda: ANY.info("session %s ends", SESSION),
    f"qk_{SESSION[4:]}": lambda: ANY.info("key", extra={"of": [{"x": f"qk_{SESSION[4:]}"}]}),
    "hunter2": lambda: ANY.info("redis://:hunter2@cache and postgresql+asyncpg://u:hunter2@db/x"),
    "eyJhbGciOiJIUzI1NiJ9": lambda: ANY.info("Bearer eyJhbGciOiJIUzI1NiJ9.e30.abcdefghijklmnopqrst is not valid"),
    "a-word": lambda: ANY.info("form", extra={"password": "a-word", "Set-Cookie": ["a-word"], "body": "a-word"}),
    "".join(("ye", "ars")): lambda: raised(lambda: Body.model_validate({"age": "ye" + "ars"})),
    "ada@example.com": lambda: raised(_bad_statement),
}


@pytest.mark.parametrize("secret", SAYING, ids=["session", "key", "url", "bearer", "field", "input", "row"])
def test_secrets_and_bodies_are_in_no_line(as_json: Lines, as_text: Lines, secret: str) -> None:
    SAYING[secret]()
    for line in (*as_json.written, *as_text.written):
        assert secret not in line
        assert "***" in line


def test_what_is_no_secret_stays(as_json: Lines) -> None:
    text = "GET /articles/a-title-of-some-length-that-reads-well 200, 12.3 ms, redis://cache:6379/0, a@b.example"
    ANY.info(text)
    assert json.loads(as_json.written[0])["event"] == text


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
