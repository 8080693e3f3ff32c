"""Every shape of a request that is on the public lists of smuggling and parsing faults, as bytes on a socket.

Each is answered as RFC 9112 demands, or its connection is closed: never 5xx, and never two answers to one request.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.serving.limits import Limits
from tests.application import create_test_app
from tests.http.otherwise import FRONT, NO_HTTP1, OTHERWISE, SERVED_IN_PARTS, WAIT_SECONDS
from tests.http.wire import converse
from tests.served import SERVER, served

HOST = b"Host: 127.0.0.1\r\n"
LIVE = b"/health/live"
# What a request that was smuggled would be: its answer is 404.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
# The server closes such a connection, or the client's own request does.
CLOSING = b"Connection: close\r\n"


def get(
    *lines: bytes, target: bytes = LIVE, version: bytes = b"1.1", host: bytes = HOST, method: bytes = b"GET"
) -> bytes:
    return (
        b"%s %s HTTP/%s\r\n" % (method, target, version) + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    )


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(b"Content-Type: application/json", *lines, target=b"/api/v1/api-keys", method=b"POST") + body


# By name: what is sent, and the statuses that may come, in order. The connection is closed after the last.
GOOD: dict[str, tuple[bytes, list[int]]] = {
    "plain": (get(b"Connection: close"), [200]),
    "head": (get(b"Connection: close", method=b"HEAD"), [200]),
    "1.0 closes": (get(version=b"1.0"), [200]),
    "an empty line before": (b"\r\n" + get(b"Connection: close"), [200]),
    "absolute form": (get(b"Connection: close", target=b"http://127.0.0.1/health/live"), [200]),
    "absolute form over Host": (
        get(b"Connection: close", target=b"http://127.0.0.1/health/live", host=b"Host: evil.example\r\n"),
        [200],
    ),
    "absolute form of another host": (get(b"Connection: close", target=b"http://evil.example/health/live"), [400]),
    "absolute form without path": (get(b"Connection: close", target=b"http://127.0.0.1?x=1"), [FRONT]),
    "percent encoded": (get(b"Connection: close", target=b"/health/%6cive"), [200]),
    "unknown method": (get(b"Connection: close", method=b"BREW"), [405]),
    "obs-fold": (get(b"X-Folded: a", b" b", b"Connection: close"), [200]),
    "equal Content-Lengths": (get(b"Content-Length: 0", b"Content-Length: 0", b"Connection: close"), [200]),
    "body of a GET": (get(b"Content-Length: 3", b"Connection: close") + b"abc", [200]),
    "pipelined": (get() * 99 + get(b"Connection: close"), [200] * 100),
    "pipelined after an error": (get(target=b"/missing") + get(b"Connection: close"), [404, 200]),
    "chunks": (
        post(b"Transfer-Encoding: chunked", b"Connection: close", body=b"2\r\n{}\r\n0\r\n\r\n"),
        [401],
    ),
    "chunk extension": (
        post(b"Transfer-Encoding: chunked", b"Connection: close", body=b"2;a=b\r\n{}\r\n0\r\n\r\n"),
        [401],
    ),
    "trailers": (
        post(b"Transfer-Encoding: chunked", b"Connection: close", body=b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        [401],
    ),
    "Upgrade to h2c is ignored": (
        get(b"Connection: close, Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: junk"),
        [200],
    ),
    "Upgrade to something else": (get(b"Connection: close, Upgrade", b"Upgrade: tunnel"), [200]),
    "OPTIONS": (get(b"Connection: close", method=b"OPTIONS"), [200]),
}

# By name: what is sent. Each is 400 (or one of the statuses given), and the connection is closed.
BAD: dict[str, tuple[bytes, set[int]]] = {
    "empty path": (get(target=b"?x"), {400}),
    "fragment": (get(target=b"#x"), {400}),
    "no target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "space in target": (get(target=b"/a b"), {400}),
    "tab between": (b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "control character in target": (get(target=b"/a\x01"), {400}),
    "raw UTF-8 in target": (get(target="/é".encode()), {400}),
    "authority form": (get(target=b"127.0.0.1:80"), {400}),
    "CONNECT": (get(target=b"127.0.0.1:80", method=b"CONNECT"), {400}),
    "CONNECT with a path": (get(target=b"http://x/", method=b"CONNECT"), {400}),
    "star of a GET": (get(target=b"*"), {400}),
    "user in absolute form": (get(target=b"http://user@127.0.0.1/"), {400}),
    "other scheme": (get(target=b"ftp://127.0.0.1/"), {400}),
    "method in parentheses": (get(method=b"G(T"), {400}),
    "no version": (b"GET /health/live\r\n\r\n", {400}),
    "version 0.9": (get(version=b"0.9"), {400}),
    "version 1.2": (get(version=b"1.2"), {400}),
    "version 2.0": (get(version=b"2.0"), {400}),
    "version 9.9": (get(version=b"9.9"), {400}),
    "lower case version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", {400}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", {400}),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", {400}),
    "no Host": (get(host=b""), {400}),
    "two Hosts": (get(b"Host: 127.0.0.1"), {400}),
    "space before colon": (get(b"X-A : 1"), {400}),
    "no colon": (get(b"nonsense"), {400}),
    "empty name": (get(b": 1"), {400}),
    "NUL in value": (get(b"X-A: a\x00b"), {400}),
    "CR in value": (get(b"X-A: a\rb"), {400}),
    "NUL in name": (get(b"X\x00A: 1"), {400}),
    "obs-fold first": (b"GET / HTTP/1.1\r\n a: b\r\n" + HOST + b"\r\n", {400}),
    "Content-Lengths that differ": (post(b"Content-Length: 1", b"Content-Length: 2", body=b"{}"), {400}),
    "Content-Length list that differs": (post(b"Content-Length: 1, 2", body=b"{}"), {400}),
    "Content-Length with sign": (post(b"Content-Length: +2", body=b"{}"), {400}),
    "Content-Length negative": (post(b"Content-Length: -2", body=b"{}"), {400}),
    "Content-Length in hex": (post(b"Content-Length: 0x2", body=b"{}"), {400}),
    "Content-Length with underscore": (post(b"Content-Length: 1_0", body=b"{}"), {400}),
    "Content-Length without digits": (post(b"Content-Length: ", body=b"{}"), {400}),
    "Content-Length of 30 digits": (post(b"Content-Length: " + b"9" * 30, body=b"{}"), {400, 413}),
    "CL.TE": (post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), {400}),
    "TE.CL": (post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\nGPOST"), {400}),
    "TE in HTTP/1.0": (
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "TE.TE": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), {400}),
    "TE twice": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), {400}),
    "TE unknown": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), {400}),
    "TE with vertical tab": (post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), {400}),
    "TE folded": (post(b"Transfer-Encoding:", b" \x0bchunked", body=b"0\r\n\r\n"), {400}),
    "chunk size no hex": (post(b"Transfer-Encoding: chunked", body=b"g\r\n{}\r\n0\r\n\r\n"), {400, 401}),
    "chunk size with sign": (post(b"Transfer-Encoding: chunked", body=b"+2\r\n{}\r\n0\r\n\r\n"), {400, 401}),
    "chunk size with 0x": (post(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"), {400, 401}),
    "chunk size of 40 digits": (post(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n"), {400, 401}),
    "chunk without its end": (post(b"Transfer-Encoding: chunked", body=b"2\r\n{}XX0\r\n\r\n"), {400, 401}),
    "chunk size after a space": (post(b"Transfer-Encoding: chunked", body=b" 2\r\n{}\r\n0\r\n\r\n"), {400, 401}),
    "header too large": (get(b"X-A: " + b"a" * 40_000), {431}),
    "headers too large": (get(*[b"X-%d: " % number + b"a" * 600 for number in range(60)]), {431}),
    "too many headers": (get(*[b"X-%d: 1" % number for number in range(120)]), {431}),
    "target too long": (get(target=b"/" + b"a" * 9000), {414}),
    "WebSocket without key": (get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), {400}),
    "WebSocket of an empty path": (
        get(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            target=b"?x",
        ),
        {400},
    ),
    # 400 where more arrives before it is refused.
    "WebSocket that is refused": (
        get(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            target=b"/missing",
        ),
        {400, 403, 404},
    ),
}


@pytest.fixture
async def port(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[int]:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    database_url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    app = create_test_app({"ENVIRONMENT": "testing", "DATABASE_URL": database_url, "CONSUMER": "0"})
    async with served(app, limits=Limits()) as port:
        yield port


def shapes(table: dict[str, tuple[bytes, Any]]) -> Iterator[tuple[str, bytes, Any]]:
    yield from ((name, *shape) for name, shape in table.items() if name not in NO_HTTP1)


async def test_what_is_well_formed_is_answered(port: int) -> None:
    wrong = {}
    for name, sent, expected in shapes(GOOD):
        answer = await converse(port, sent, methods=(sent.split(b" ")[0].strip(),), seconds=WAIT_SECONDS)
        if answer.statuses != OTHERWISE.get(name, expected) or not answer.closed:
            wrong[name] = (answer.statuses, answer.closed)
    assert wrong == {}


async def test_what_is_malformed_is_refused_once_and_its_connection_closed(port: int) -> None:
    wrong = {}
    for name, sent, expected in shapes(BAD):
        # What follows on the connection must not be read as a request.
        answer = await converse(port, sent, SMUGGLED, seconds=WAIT_SECONDS)
        if name in OTHERWISE:
            right = answer.statuses == OTHERWISE[name]
        else:
            right = len(answer.statuses) <= 1 and expected.issuperset(answer.statuses) and answer.closed
        if not right:
            wrong[name] = (answer.statuses, answer.closed)
    assert wrong == {}


async def test_a_head_without_an_end_is_refused_at_its_limit(port: int) -> None:
    # The others count the request line as a part of the head.
    too_long = 414 if SERVER == "ours" else 431
    assert (await converse(port, b"GET /" + b"a" * 80_000)).statuses == [too_long]
    assert (await converse(port, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 80_000)).statuses == [431]


async def test_each_shape_in_single_bytes_is_answered_as_whole(port: int) -> None:
    wrong = {}
    for name, sent, expected in shapes(BAD):
        if len(sent) < 400 and name not in (*OTHERWISE, *SERVED_IN_PARTS):
            answer = await converse(port, *(sent[place : place + 1] for place in range(len(sent))))
            if len(answer.statuses) > 1 or not expected.issuperset(answer.statuses) or not answer.closed:
                wrong[name] = (answer.statuses, answer.closed)
    assert wrong == {}


async def test_a_hundred_pipelined_requests_have_a_hundred_answers_in_order(port: int) -> None:
    requests = [get(target=b"/missing/%d" % number) for number in range(99)]
    answer = await converse(port, b"".join(requests), get(b"Connection: close"))
    assert answer.statuses == [404] * 99 + [200]


async def test_a_half_closed_connection_is_closed(port: int) -> None:
    for sent in (b"", b"GET", get(), post(b"Content-Length: 10", body=b"{}")):
        answer = await converse(port, sent, half_close=True, seconds=WAIT_SECONDS)
        # Plain Hypercorn waits for keep_alive_timeout.
        assert answer.closed or SERVER == "plain"
        assert len(answer.statuses) <= 1


async def test_expectations_of_100(port: int) -> None:
    """RFC 9110, 10.1.1: 100 before the body, or the final status; another expectation is ignored or 417."""
    sent = post(b"Expect: 100-continue", b"Content-Length: 2", b"Connection: close")
    answer = await converse(port, sent, b"{}")
    assert answer.statuses == [401]
    assert answer.raw.startswith((b"HTTP/1.1 100 ", b"HTTP/1.1 401 "))
    answer = await converse(port, get(b"Expect: something", b"Connection: close"))
    assert answer.statuses in ([200], [417])


@pytest.mark.skipif(SERVER != "ours", reason="the other servers may close before the client has read the answer")
@pytest.mark.parametrize("length", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_is_too_long_is_413_and_the_answer_arrives(port: int, length: bytes) -> None:
    """While the client still sends: a reset would destroy the answer."""
    part = b"a" * 50_000 if length.startswith(b"C") else b"c350\r\n" + b"a" * 50_000 + b"\r\n"
    answer = await converse(port, post(length), *[part] * 60)
    assert answer.statuses in ([413], [401])
    assert answer.responses[0][1][b"connection"] == b"close"
    assert answer.closed


async def test_a_redirect_leads_to_the_public_url_and_not_to_the_host(port: int) -> None:
    sent = get(b"Connection: close", target=b"//api//v1//presence?x=1", host=b"Host: localhost:1\r\n")
    answer = await converse(port, sent)
    [(status, headers, body)] = answer.responses
    assert (status, headers[b"location"], body) == (308, b"http://127.0.0.1:8000/api/v1/presence?x=1", b"")
    assert b"content-type" not in headers


@pytest.mark.parametrize(
    ("given", "status", "part"),
    [
        (b"bytes=0-3", 206, b"bytes 0-3/"),
        (b"bytes=9999999-", 416, b"bytes */"),
        (b"lines=0-3", 200, None),
        (b"bytes=5-2", 200, None),
        (b"bytes=x", 200, None),
    ],
)
async def test_ranges(port: int, given: bytes, status: int, part: bytes | None) -> None:
    """RFC 9110, 14.2 and 15.5.17: an unknown unit and an invalid range are ignored, an unsatisfiable one is 416."""
    answer = await converse(port, get(b"Range: " + given, b"Connection: close", target=b"/static/quartet.css"))
    [(found, headers, _)] = answer.responses
    assert found == status
    assert headers.get(b"content-range", b"").startswith(part or b"")
    assert (b"content-range" in headers) == (part is not None)


async def test_what_has_no_content_has_no_type(port: int) -> None:
    [(_, headers, _)] = (await converse(port, get(b"Connection: close", method=b"OPTIONS"))).responses
    assert headers[b"allow"]
    assert b"content-type" not in headers
