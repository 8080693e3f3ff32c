"""RFC 9113, frame by frame: what breaks the connection, what breaks one stream, and what is to be ignored."""

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any

import hpack
import pytest
import trustme

from app.serving.limits import Limits
from app.serving.tls import Certificate
from tests.serving.application import Application, ours
from tests.serving.test_http2 import authority, certificate, opened

__all__ = ["authority", "certificate"]

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY, ACK = 1, 4, 8, 32, 1
MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROBE = b"a probe."
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
READ = [(":method", "POST"), *GET[1:3], (":path", "/read")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = MAGIC + frame(SETTINGS, 0, 0)


def head(fields: list[tuple[str, str]], *, stream: int = 1, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def block(fields: list[tuple[str, str]]) -> bytes:
    """Without names of a table, so that each stands for itself."""
    encoded: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*each) for each in fields], huffman=False)
    return encoded


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def without(name: str) -> list[tuple[str, str]]:
    return [each for each in GET if each[0] != name]


UPLOAD = head(READ, flags=END_HEADERS)
# Each ends the connection (5.4.1).
ENDS_CONNECTION = {
    "3.4 no preface": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "3.4 another frame first": MAGIC + frame(PING, 0, 0, PROBE),
    "4.2 DATA too large": PREFACE + UPLOAD + frame(DATA, 0, 1, b"x" * 20_000),
    "4.2 HEADERS too large": PREFACE + frame(HEADERS, 5, 1, block(GET) + b"\0" * 20_000),
    "4.3 a block that does not decode": PREFACE + frame(HEADERS, 5, 1, b"\xff" * 6),
    "4.3 HEADERS amid a block": PREFACE + head(GET, flags=END_STREAM) + head(GET, stream=3),
    "4.3 PING amid a block": PREFACE + head(GET, flags=END_STREAM) + frame(PING, 0, 0, PROBE),
    "4.3 an unknown frame amid a block": PREFACE + head(GET, flags=END_STREAM) + frame(22, 0, 1),
    "4.3 a block that grows the table too far": PREFACE + frame(HEADERS, 5, 1, b"\x3f\xe1\xff\x03" + block(GET)),
    "5.1 DATA on an idle stream": PREFACE + frame(DATA, 0, 1, b"x"),
    "5.1 RST_STREAM of an idle stream": PREFACE + frame(RESET, 0, 1, bytes(4)),
    "5.1 WINDOW_UPDATE of an idle stream": PREFACE + frame(WINDOW, 0, 1, b"\0\0\0\1"),
    "5.1 CONTINUATION of an idle stream": PREFACE + frame(CONTINUATION, 4, 1, block(GET)),
    "5.1.1 an even stream": PREFACE + head(GET, stream=2),
    "5.1.1 a lower stream": PREFACE + head(GET, stream=5) + head(GET, stream=3),
    "6.1 DATA on stream 0": PREFACE + frame(DATA, 0, 0, b"x"),
    "6.1 padding beyond DATA": PREFACE + UPLOAD + frame(DATA, PADDED, 1, b"\xffx"),
    "6.2 HEADERS on stream 0": PREFACE + head(GET, stream=0),
    "6.2 padding beyond HEADERS": PREFACE + frame(HEADERS, 5 | PADDED, 1, b"\xff" + block(GET)),
    "6.3 PRIORITY on stream 0": PREFACE + frame(PRIORITY, 0, 0, bytes(5)),
    "6.4 RST_STREAM on stream 0": PREFACE + frame(RESET, 0, 0, bytes(4)),
    "6.4 RST_STREAM of a wrong size": PREFACE + UPLOAD + frame(RESET, 0, 1, bytes(3)),
    "6.5 SETTINGS on a stream": PREFACE + frame(SETTINGS, 0, 1),
    "6.5 SETTINGS of a wrong size": PREFACE + frame(SETTINGS, 0, 0, b"12345"),
    "6.5 SETTINGS' acknowledgement with content": PREFACE + frame(SETTINGS, ACK, 0, bytes(6)),
    "6.5.2 ENABLE_PUSH of 2": PREFACE + setting(2, 2),
    "6.5.2 a window that is too large": PREFACE + setting(4, 0xFFFFFFFF),
    "6.5.2 frames that are too small": PREFACE + setting(5, 16383),
    "6.5.2 frames that are too large": PREFACE + setting(5, 1 << 24),
    "6.6 PUSH_PROMISE of a client": PREFACE + frame(PUSH, 4, 1, b"\0\0\0\2" + block(GET)),
    "6.7 PING on a stream": PREFACE + frame(PING, 0, 1, PROBE),
    "6.7 PING of a wrong size": PREFACE + frame(PING, 0, 0, b"1234"),
    "6.8 GOAWAY on a stream": PREFACE + frame(GOAWAY, 0, 1, bytes(8)),
    "6.9 WINDOW_UPDATE of nothing": PREFACE + frame(WINDOW, 0, 0, bytes(4)),
    "6.9 WINDOW_UPDATE of a wrong size": PREFACE + frame(WINDOW, 0, 0, bytes(3)),
    "6.9.1 a window beyond the largest": PREFACE + frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "6.9.2 SETTINGS that take a window too far": (
        PREFACE + UPLOAD + frame(WINDOW, 0, 1, b"\x7f\xff\0\0") + setting(4, 0x7FFFFFFF)
    ),
    "6.10 CONTINUATION on stream 0": PREFACE + frame(CONTINUATION, 4, 0, block(GET)),
    "6.10 CONTINUATION after a whole block": PREFACE + UPLOAD + frame(CONTINUATION, 4, 1, block(GET)),
}
# Each is refused: with 400, a reset, or the end of the connection, which a stream's error may be taken for (5.4.1).
REFUSED = {
    "5.1 DATA after the end": PREFACE + head(READ) + frame(DATA, 1, 1, b"x"),
    "5.1 HEADERS after the end": PREFACE + head([*READ[:3], (":path", "/slow")]) + head(GET),
    "5.1 DATA after RST_STREAM": PREFACE + UPLOAD + frame(RESET, 0, 1, bytes(4)) + frame(DATA, 1, 1, b"x"),
    "6.9 WINDOW_UPDATE of nothing on a stream": PREFACE + UPLOAD + frame(WINDOW, 0, 1, bytes(4)),
    "6.9.1 a stream's window beyond the largest": PREFACE + UPLOAD + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"),
    "8.1 a second head without the end": PREFACE + UPLOAD + head([("a", "b")], flags=END_HEADERS),
    "8.1 a pseudo-header in trailers": PREFACE + UPLOAD + head([(":method", "GET")]),
    "8.1.1 a body that is shorter than said": PREFACE
    + head([*READ, ("content-length", "5")], flags=END_HEADERS)
    + frame(DATA, 1, 1, b"x"),
    "8.1.1 a body that is longer than said": PREFACE
    + head([*READ, ("content-length", "1")], flags=END_HEADERS)
    + frame(DATA, 0, 1, b"xx")
    + frame(DATA, 1, 1, b"x"),
    "8.2.1 an upper-case name": PREFACE + head([*GET, ("X-A", "1")]),
    "8.2.1 a line end in a value": PREFACE + head([*GET, ("x-a", "1\r\nx-b: 2")]),
    "8.2.1 NUL in a value": PREFACE + head([*GET, ("x-a", "1\0")]),
    "8.2.1 a space before a name": PREFACE + head([*GET, (" x-a", "1")]),
    "8.2.2 connection": PREFACE + head([*GET, ("connection", "keep-alive")]),
    "8.2.2 transfer-encoding": PREFACE + head([*GET, ("transfer-encoding", "chunked")]),
    "8.2.2 TE but trailers": PREFACE + head([*GET, ("te", "gzip")]),
    "8.3 an unknown pseudo-header": PREFACE + head([*GET, (":test", "1")]),
    "8.3 a response's pseudo-header": PREFACE + head([*GET, (":status", "200")]),
    "8.3 a pseudo-header after others": PREFACE + head([*without(":path"), ("a", "b"), (":path", "/")]),
    "8.3 a pseudo-header twice": PREFACE + head([*GET, (":method", "GET")]),
    "8.3.1 no path": PREFACE + head(without(":path")),
    "8.3.1 an empty path": PREFACE + head([*without(":path"), (":path", "")]),
    "8.3.1 a method that is not ASCII": PREFACE + head([(":method", "GÉT"), *GET[1:]]),
    "8.3.1 a method that is no token": PREFACE + head([(":method", "G T"), *GET[1:]]),
    "8.3.1 no method": PREFACE + head(without(":method")),
    "8.3.1 no scheme": PREFACE + head(without(":scheme")),
    "8.5 CONNECT": PREFACE + head([(":method", "CONNECT"), (":authority", "x:1")]),
}
# Each is answered.
ANSWERED = {
    "4.1 an unknown frame": PREFACE + frame(22, 0xFF, 0, b"abc") + head(GET),
    "4.1 an unknown flag": PREFACE + frame(PING, 0x16, 0, b"12345678") + head(GET),
    "4.1 the reserved bit": PREFACE + frame(PING, 0, 1 << 31, b"12345678") + head(GET),
    "4.3 a block in parts": PREFACE
    + frame(HEADERS, END_STREAM, 1, block(GET)[:5])
    + frame(CONTINUATION, 0, 1, block(GET)[5:9])
    + frame(CONTINUATION, END_HEADERS, 1, block(GET)[9:]),
    "5.1 PRIORITY of an idle stream": PREFACE + frame(PRIORITY, 0, 7, bytes(4) + b"\x10") + head(GET),
    "6.1 DATA with padding": PREFACE + UPLOAD + frame(DATA, PADDED | END_STREAM, 1, b"\2xx\0\0"),
    "6.1 empty DATA at the end": PREFACE + UPLOAD + frame(DATA, 0, 1, b"x") + frame(DATA, END_STREAM, 1),
    "6.2 HEADERS with padding and priority": PREFACE
    + frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, b"\1" + bytes(4) + b"\x10" + block(GET) + b"\0"),
    "6.5 an unknown setting": PREFACE + setting(0xFF, 1) + head(GET),
    "6.9 a larger window": PREFACE + frame(WINDOW, 0, 0, b"\0\0\1\0") + head(GET),
    "8.1 trailers": PREFACE + UPLOAD + frame(DATA, 0, 1, b"x") + head([("x-trailer", "1")]),
    "8.2.2 TE of trailers": PREFACE + head([*GET, ("te", "trailers")]),
    "8.3 OPTIONS of all": PREFACE + head([(":method", "OPTIONS"), *without(":path")[1:], (":path", "*")]),
}


@dataclass
class Outcome:
    """What came back: statuses and resets of stream 1, and whether the connection has ended."""

    statuses: list[int] = field(default_factory=list)
    is_reset: bool = False
    has_ended: bool = False
    is_alive: bool = False

    def read(self, kind: int, stream: int, payload: bytes, decoder: hpack.Decoder) -> None:
        if kind == HEADERS:
            fields: dict[Any, Any] = dict(decoder.decode(payload))
            if stream == 1 and ":status" in fields:
                self.statuses.append(int(fields[":status"]))
        elif kind == RESET and stream == 1:
            self.is_reset = True
        elif kind == PING and payload == PROBE:
            self.is_alive = True

    @property
    def is_refused(self) -> bool:
        return self.has_ended or self.is_reset or self.statuses == [400]


async def outcome(authority: trustme.CA, port: int, sent: bytes) -> Outcome:
    """When the server has read all, and answered stream 1 or ended the connection."""
    found, decoder = Outcome(), hpack.Decoder()
    async with opened(authority, port) as (reader, writer):
        writer.write(sent + frame(PING, 0, 0, PROBE))
        try:
            async with asyncio.timeout(30):
                while not (found.is_alive and (found.statuses or found.is_reset)):
                    begin = await reader.readexactly(9)
                    payload = await reader.readexactly(int.from_bytes(begin[:3], "big"))
                    found.read(begin[3], int.from_bytes(begin[5:], "big"), payload, decoder)
        except (OSError, asyncio.IncompleteReadError):
            found.has_ended = True
        except TimeoutError:
            pass
    return found


async def test_each_frame_is_answered_as_the_rfc_says(
    authority: trustme.CA, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    app, wrong = Application(), {}
    # No connection ends because its client takes long.
    limits = Limits(header_seconds=60)
    async with ours(app, tls=certificate.context, limits=limits) as port:
        for name, sent in ENDS_CONNECTION.items():
            found = await outcome(authority, port, sent)
            if not found.has_ended or any(status >= 500 for status in found.statuses):
                wrong[name] = found
        for name, sent in REFUSED.items():
            found = await outcome(authority, port, sent)
            if not found.is_refused:
                wrong[name] = found
        for name, sent in ANSWERED.items():
            found = await outcome(authority, port, sent)
            if found.statuses != [200] or found.has_ended:
                wrong[name] = found
        app.release.set()
        assert wrong == {}
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
