"""The format of event streams as a table: what is encoded, its bytes, and what a client then dispatches.

Cases of the HTML Living Standard, sections 9.2.5 and 9.2.6. Each case is a stream of its own.
"""

from dataclasses import dataclass, field

from app.kit.events.event import Cursor
from app.kit.events.sse import HEARTBEAT, encode_frame, encode_position

CURSOR = Cursor("0123456789ab", (1700000000000, 7))

# The type, the data and the last event id that a listener gets.
Dispatched = tuple[str, str, str]


@dataclass(frozen=True)
class Case:
    name: str
    encoded: bytes
    expected: bytes
    dispatched: list[Dispatched] = field(default_factory=list)


def data_case(name: str, data: str, expected: bytes, received: str | None = None) -> Case:
    """A frame of data alone; `received` where line ends are normalised."""
    text = data if received is None else received
    return Case(name, encode_frame(data.encode()), expected, [("message", text, "")])


# None of these ends a line in an event stream, though str.splitlines() splits at each.
KEPT = {
    "vertical tab": "\x0b",
    "form feed": "\x0c",
    "file separator": "\x1c",
    "group separator": "\x1d",
    "record separator": "\x1e",
    "U+0085": "\x85",
    "U+2028": "\u2028",
    "U+2029": "\u2029",
    "NUL": "\0",
}

CASES = [
    data_case("one line", "x", b"data: x\n\n"),
    data_case("LF", "a\nb", b"data: a\ndata: b\n\n"),
    data_case("CR", "a\rb", b"data: a\ndata: b\n\n", "a\nb"),
    data_case("CRLF", "a\r\nb", b"data: a\ndata: b\n\n", "a\nb"),
    data_case("LF CR are two", "a\n\rb", b"data: a\ndata: \ndata: b\n\n", "a\n\nb"),
    data_case("an empty line within", "a\n\nb", b"data: a\ndata: \ndata: b\n\n"),
    data_case("a line end at the end", "a\n", b"data: a\ndata: \n\n"),
    data_case("nothing but line ends", "\n\n", b"data: \ndata: \ndata: \n\n"),
    data_case("empty data", "", b"data: \n\n"),
    data_case("a space in front", "  x", b"data:   x\n\n"),
    data_case("a colon in front", ": x", b"data: : x\n\n"),
    data_case("what looks like a field", "a\nid: 1\nretry: 2", b"data: a\ndata: id: 1\ndata: retry: 2\n\n"),
    data_case("not ASCII", "Zoë 🎉", "data: Zoë 🎉\n\n".encode()),
    data_case("a byte order mark", "\ufeffx", "data: \ufeffx\n\n".encode()),
    *(data_case(name, f"a{text}b", f"data: a{text}b\n\n".encode()) for name, text in KEPT.items()),
    Case("a type", encode_frame(b"x", event="tick"), b"event: tick\ndata: x\n\n", [("tick", "x", "")]),
    Case(
        "line ends and NUL in a type",
        encode_frame(b"x", event="ti\r\ndata: y\0ck"),
        b"event: tidata: yck\ndata: x\n\n",
        [("tidata: yck", "x", "")],
    ),
    Case("an id", encode_frame(b"x", event_id="7"), b"id: 7\ndata: x\n\n", [("message", "x", "7")]),
    Case(
        "line ends and NUL in an id",
        encode_frame(b"x", event_id="7\r\n\0 8"),
        b"id: 7 8\ndata: x\n\n",
        [("message", "x", "7 8")],
    ),
    Case(
        "an id stays until the next",
        encode_frame(b"x", event_id="7") + encode_frame(b"y") + encode_frame(b"z", event_id="8"),
        b"id: 7\ndata: x\n\ndata: y\n\nid: 8\ndata: z\n\n",
        [("message", "x", "7"), ("message", "y", "7"), ("message", "z", "8")],
    ),
    Case(
        "a type holds for one event",
        encode_frame(b"x", event="tick") + encode_frame(b"y"),
        b"event: tick\ndata: x\n\ndata: y\n\n",
        [("tick", "x", ""), ("message", "y", "")],
    ),
    Case("an id without data is no event", encode_position(CURSOR), b"id: 0123456789ab-1700000000000-7\n\n"),
    Case(
        "an id without data is that of the next event",
        encode_position(CURSOR) + encode_frame(b"x"),
        b"id: 0123456789ab-1700000000000-7\n\ndata: x\n\n",
        [("message", "x", str(CURSOR))],
    ),
    Case("a comment is no event", HEARTBEAT + encode_frame(b"x"), b":\n\ndata: x\n\n", [("message", "x", "")]),
    Case(
        "the pause is no event",
        b"retry: 10\n\n" + encode_frame(b"x"),
        b"retry: 10\n\ndata: x\n\n",
        [("message", "x", "")],
    ),
]
