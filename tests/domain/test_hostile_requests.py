"""Requests that no honest client sends: whatever a header or a target holds, the answer has the one shape."""

import logging
import re
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.web.host import host_name
from app.web.middleware.security import MOST_HEADER_BYTES, MOST_QUERY_FIELDS, MOST_TARGET_BYTES
from tests.raw_requests import Door

generated = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ROUTES = [
    ("GET", b"/static/favicon.svg"),
    ("GET", b"/api/v1/notices"),
    ("GET", b"/api/v1/profile"),
    ("GET", b"/openapi.json"),
    ("HEAD", b"/api/v1/events"),
    ("POST", b"/api/v1/login"),
    ("PUT", b"/api/v1/password"),
    ("GET", b"/nothing"),
]
NAMES = [
    *(b"accept", b"api-key", b"authorization", b"cache-control", b"content-length", b"content-type", b"cookie"),
    *(b"date", b"forwarded", b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since"),
    *(b"last-event-id", b"origin", b"range", b"sec-fetch-site", b"transfer-encoding", b"x-forwarded-for"),
    *(b"x-request-id", b"x-session-id", b"expect", b"connection", b"remote-addr"),
]
PIECES = [
    *(b"bytes=", b"-", b",", b";", b"=", b'"', b"W/", b"*", b" ", b"\t", b"%", b"\xff", b"\xc2\xb2", b"9" * 25, b"0"),
    *(b"Sun, 06 Nov ", b"1994", b" 08:49:37 GMT", b" +99999999", b"q=", b"for=", b"[::1]", b"Bearer ", b"Basic "),
    *(b"application/json", b"multipart/form-data; boundary=", b"charset=", b"xn--", b"1e999", b"a" * 300),
]
VALUES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join),
    # What a server lets through: no control characters, no spaces around.
    st.binary(max_size=40).map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127).strip()),
)
TOO_LATE = b"Sun, 06 Nov 1994000000000000000000000 08:49:37 GMT"


@given(route=st.sampled_from(ROUTES), headers=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=3))
@example(route=ROUTES[0], headers=[(b"if-modified-since", TOO_LATE)])
@example(route=ROUTES[0], headers=[(b"if-range", TOO_LATE), (b"range", b"bytes=0-1")])
@example(route=ROUTES[0], headers=[(b"range", b"bytes=-5")])
@generated
def test_whatever_a_header_holds(door: Door, route: tuple[str, bytes], headers: list[tuple[bytes, bytes]]) -> None:
    method, target = route
    door.send(target, method=method, headers=headers)


LABELS = st.text(alphabet="aZ0-_.", max_size=70)
HOSTS = st.one_of(
    LABELS.map(str.encode),
    st.tuples(LABELS, st.sampled_from([".localhost", ":80", ":", ":x", "]"])).map(
        lambda parts: "".join(parts).encode()
    ),
    VALUES,
)


@given(host=HOSTS)
@example(host=b"a..b")
@example(host=b".")
@example(host=b"x" * 64 + b".localhost")
@example(host=b"[::1")
@generated
def test_whatever_the_host_is(door: Door, host: bytes) -> None:
    name = host_name(host.decode("latin-1"))
    own = name == "localhost" or name.endswith(".localhost") or name.startswith("127.") or ":" in name
    status = door.send(b"/health/live", host=host).status
    assert status == 400 if not own else status in (200, 400)


def test_a_second_host_is_400(door: Door, subtests: pytest.Subtests) -> None:
    for second in [b"localhost", b"evil.example", b""]:
        with subtests.test(f"{ascii(second):.40}"):
            assert door.send(b"/health/live", headers=[(b"host", second)]).status == 400


TARGETS = st.one_of(
    st.binary(max_size=30).map(lambda text: b"/" + text),
    st.lists(
        st.sampled_from([b"/", b"..", b"%2e", b"%00", b"%ff", b"?", b"&", b"=", b"a", b"*", b":", b"http://", b"["])
    ).map(b"".join),
)


@given(method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "A"]), target=TARGETS)
@example(method="GET", target=b"http://[x")
@example(method="OPTIONS", target=b"*")
@example(method="CONNECT", target=b"example.org:443")
@generated
def test_whatever_the_target_is(door: Door, method: str, target: bytes) -> None:
    door.send(target, method=method)


def test_an_absolute_target_names_the_host(door: Door) -> None:
    assert door.send(b"http://localhost/health/live", host=b"evil.example").status == 200
    assert door.send(b"http://evil.example/health/live", host=b"localhost").status == 400


def test_every_answer_has_one_line_in_the_log(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    hosts = [b"a..b", b".", b"\xff", b"x" * 64, b"", b"[::1"]
    for host in hosts:
        door.send(b"/health/live", host=host)
    assert [record.name for record in caplog.records].count("app.requests") == len(hosts)


DATES = st.datetimes().map(lambda moment: format_datetime(moment).replace("-0000", "GMT").encode())


@given(date=DATES)
@generated
def test_a_date_counts_as_it_did(door: Door, date: bytes) -> None:
    """Every HTTP-date is compared with the file's own; what is none is ignored."""
    modified = parsedate_to_datetime(door.send(b"/static/favicon.svg").headers[b"last-modified"].decode())
    answer = door.send(b"/static/favicon.svg", headers=[(b"if-modified-since", date)])
    assert answer.status == (304 if parsedate_to_datetime(date.decode()) >= modified else 200)


@given(value=st.one_of(VALUES, st.integers(-(10**20), 10**20).map(lambda number: b"bytes=%d" % number)))
@example(value=b"bytes=-5")
@example(value=b"bytes=0-0,5-6")
@generated
def test_a_range_is_exact_or_ignored(door: Door, value: bytes) -> None:
    whole = door.send(b"/static/favicon.svg").body
    answer = door.send(b"/static/favicon.svg", headers=[(b"range", value)])
    if answer.status == 206:
        place = re.fullmatch(rb"bytes ([0-9]+)-([0-9]+)/([0-9]+)", answer.headers[b"content-range"])
        assert place
        assert answer.body == whole[int(place[1]) : int(place[2]) + 1]
    else:
        assert (answer.status, answer.body) == (200, whole) or answer.status == 416


@given(first=st.integers(0, 400), last=st.integers(0, 400))
@generated
def test_a_range_from_the_front_is_served(door: Door, first: int, last: int) -> None:
    whole = door.send(b"/static/favicon.svg").body
    answer = door.send(b"/static/favicon.svg", headers=[(b"range", b"bytes=%d-%d" % (first, last))])
    if first <= last and first < len(whole):
        assert (answer.status, answer.body) == (206, whole[first : last + 1])


NUMBERS = st.one_of(
    st.integers(2**63 - 3, 2**63 + 3),
    st.integers(0, 10**40),
    st.integers(0, 30),
).map(str)
SPELLINGS = st.one_of(
    NUMBERS,
    NUMBERS.map(lambda number: "0" + number),
    NUMBERS.map(lambda number: number + ".0"),
    NUMBERS.map(lambda number: " " + number),
    NUMBERS.map(lambda number: "+" + number),
    NUMBERS.map(lambda number: "1_" + number),
    NUMBERS.map(lambda number: number + "\n"),
    st.text(alphabet="٠١٢٣٤٥٦٧٨٩７०", min_size=1, max_size=4),
)


def is_plain(text: str, *, largest: int) -> bool:
    """Whether a text is the one spelling of a number from 0 to `largest`."""
    return text.isascii() and text.isdigit() and str(int(text)) == text and int(text) <= largest


@given(text=SPELLINGS, method=st.sampled_from(["GET", "PUT", "DELETE", "POST", "PATCH"]))
@example(text="9223372036854775808", method="DELETE")
@example(text="0007", method="GET")
@generated
def test_an_id_has_one_spelling(door: Door, text: str, method: str) -> None:
    target = b"/api/v1/users/" + "".join(f"%{byte:02x}" for byte in text.encode()).encode()
    status = door.send(target, method=method).status
    if not is_plain(text, largest=2**63 - 1):
        assert status == 404
    else:
        assert status == {"GET": 404, "POST": 405, "PATCH": 405, "PUT": 415, "DELETE": 401}[method]


def test_what_takes_long_to_parse_is_refused_unparsed(door: Door, subtests: pytest.Subtests) -> None:
    for route in ROUTES:
        with subtests.test(f"{ascii(route):.40}"):
            method, target = route
            for query in (b"a&" * MOST_QUERY_FIELDS, b"%" * MOST_TARGET_BYTES, b"&" * 60_000):
                assert door.send(target + b"?" + query, method=method).status == 414
            for name in (b"cookie", b"x-session-id", b"if-none-match", b"x"):
                assert (
                    door.send(target, method=method, headers=[(name, b"a=b;" * (MOST_HEADER_BYTES // 4))]).status == 431
                )
            many = [(b"x%d" % n, b"y" * 20) for n in range(2000)]
            assert door.send(target, method=method, headers=many).status == 431


def test_what_is_as_long_as_allowed_is_answered(door: Door) -> None:
    query = b"&".join([b"a=1"] * MOST_QUERY_FIELDS)
    assert door.send(b"/api/v1/notices?" + query).status == 200
    assert door.send(b"/api/v1/notices", headers=[(b"cookie", b"a=b; " * 6000)]).status == 200


def test_a_compressed_body_is_refused(door: Door) -> None:
    """Also one that only says so."""
    body = b'{"email":"ada@example.org","name":"Ada","password":"correct horse battery"}'
    for coding, status in ((b"gzip", 415), (b"GZIP, br", 415), (b"x", 415), (b"identity", 201)):
        headers = [(b"content-type", b"application/json"), (b"content-encoding", coding)]
        answer = door.send(b"/api/v1/users", method="POST", headers=headers, body=body)
        assert (answer.status, answer.headers.get(b"accept-encoding")) == (
            status,
            b"identity" if status == 415 else None,
        )


def test_a_media_type_with_very_many_parameters_is_unknown(door: Door) -> None:
    headers = [(b"content-type", b"application/json" + b";a=b" * 7000)]
    assert door.send(b"/api/v1/users", method="POST", headers=headers, body=b"{}").status == 415
