"""Request ids and trace contexts that clients make up: answered as any request, and in no line as they came."""

import logging

import pytest
from quart.testing import QuartClient

from app.otel import OpenTelemetry
from tests.waiting import eventually

NEVER = ("evil", "\n", "\x1b", "\ud800", "é")
# A line break in a header never comes so far: servers refuse it.
IDS = [
    "evil" * 2500,
    "evil-é",
    "evil \x1b[2J",
    "evil;b",
    "",
    "evil",
    "evil\x00evil",
    "{evil}evil",
]


@pytest.mark.parametrize("given", IDS, ids=lambda given: repr(given[:20]))
async def test_an_id_that_is_not_well_formed_is_replaced(
    client: QuartClient, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = await client.get("/health/live", headers=[("X-Request-ID", given)])
    assert answer.status_code == 200
    [made] = answer.headers.getlist("X-Request-ID")
    assert made.isalnum()
    assert len(made) == 16
    assert not any(text in made or text in caplog.text.replace("\n", "") for text in NEVER)


PARENTS = [
    b"",
    b"junk",
    b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
    b"00-" + b"a" * 32 + b"-" + b"0" * 16 + b"-01",
    b"ff-" + b"a" * 32 + b"-" + b"1" * 16 + b"-01",
    b"00-" + b"G" * 32 + b"-" + b"1" * 16 + b"-01",
    b"00-" + b"a" * 31 + b"\n-" + b"1" * 16 + b"-01",
    b"00-" + b"a" * 32 + b"-" + b"1" * 16 + b"-01-" + b"x" * 10_000,
    b"\xff\xfe\x00",
    "00-\u0661".encode() * 50,
]


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_trace_context_that_is_not_well_formed_begins_a_trace(trusted: bool) -> None:
    tracer = OpenTelemetry("http://127.0.0.1:1", sample_ratio=1, name="a", version="1", role="web")
    seen: list[str | None] = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append(tracer.traceparent())

    traced = tracer.around_requests(app, route=lambda: "/", trusts=lambda scope: trusted)
    good = b"00-" + b"a" * 32 + b"-" + b"1" * 16 + b"-01"
    for given in (*PARENTS, good):
        for headers in ([(b"traceparent", given)], [(b"traceparent", given), (b"tracestate", b"\xff" * 10_000)]):
            await traced({"type": "http", "method": "GET", "headers": headers}, None, None)
    await eventually(lambda: len(seen) == 2 * len(PARENTS) + 2)
    for found in seen[:-2]:
        assert found is not None
        assert len(found) == 55
        assert "a" * 32 not in found
    assert all(("a" * 32 in str(found)) == trusted for found in seen[-2:])
    await tracer.close()
