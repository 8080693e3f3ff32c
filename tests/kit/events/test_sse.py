"""How server-sent events are encoded."""

import json

import pytest

from app.kit.events.event import Cursor
from app.kit.events.sse import RETRY_MS, encode_frame, encode_position, encode_resync, encode_retry
from tests.kit.events.event_streams import Parser

CURSOR = Cursor("0123456789ab", (1700000000000, 7))


@pytest.mark.parametrize("separator", [b"\n", b"\r", b"\r\n"])
def test_every_end_of_line_starts_a_data_field(separator: bytes) -> None:
    assert encode_frame(b"one" + separator + b"two") == b"data: one\ndata: two\n\n"


def test_an_empty_line_stays() -> None:
    assert encode_frame(b"one\n\r\ntwo\n") == b"data: one\ndata: \ndata: two\ndata: \n\n"


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_what_ends_no_line_stays_in_it(character: str) -> None:
    assert encode_frame(f"a{character}b".encode()) == f"data: a{character}b\n\n".encode()


def test_event_and_id_lose_what_would_break_out_of_their_line() -> None:
    encoded = encode_frame(b"x", event="no\nti\rce\0", event_id="1\r\ndata: forged\0")
    assert encoded == b"id: 1data: forged\nevent: notice\ndata: x\n\n"


def test_resync_is_an_event_with_the_id_to_go_on_from() -> None:
    parser = Parser()
    parser.feed(encode_resync(CURSOR, reason="history"))
    [event] = parser.events
    assert (event.id, event.type) == (str(CURSOR), "resync")
    assert event.data["type"] == "resync"
    assert event.data["data"] == {"reason": "history"}
    assert set(event.data) == {"type", "data", "timestamp", "channel"}


def test_resync_without_a_cursor_keeps_the_id() -> None:
    assert b"id:" not in encode_resync(None, reason="epoch")


def test_a_position_is_an_id_and_no_event() -> None:
    parser = Parser()
    parser.feed(encode_position(CURSOR))
    assert parser.last_event_id == str(CURSOR)
    assert parser.events == []


def test_retry_has_jitter() -> None:
    pauses = {int(encode_retry().split()[1]) for _ in range(50)}
    assert len(pauses) > 10
    assert min(pauses) >= RETRY_MS[0]
    assert max(pauses) < RETRY_MS[1]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "junk",
        "0123456789ab-1-",
        "0123456789AB-1-1",
        "0123456789ab-1-1\n",
        "0123456789ab--1-1",
        f"0123456789ab-{'9' * 16}-1",
        "0123456789ab-١-1",
    ],
)
def test_what_is_no_cursor(text: str | None) -> None:
    assert Cursor.parse(text) is None


def test_a_cursor_is_read_back() -> None:
    assert Cursor.parse(str(CURSOR)) == CURSOR


def test_data_is_utf8() -> None:
    body = {"name": "Zoë 🎉"}
    assert json.loads(encode_frame(json.dumps(body, ensure_ascii=False).encode())[6:]) == body
