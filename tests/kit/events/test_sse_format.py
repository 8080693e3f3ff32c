"""The table of the format: its bytes, and what a decoder that is not ours makes of them."""

import re

import httpx
import pytest
from httpx_sse import EventSource

from app.kit.events.sse import encode_retry
from tests.kit.events.sse_format import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bytes_are_these(case: Case) -> None:
    assert case.encoded == case.expected


def test_a_pause_is_digits_alone() -> None:
    assert all(re.fullmatch(rb"retry: [0-9]+\n\n", encode_retry()) for _ in range(20))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_httpx_sse_dispatches_what_was_encoded(case: Case) -> None:
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=case.encoded)
    received = [(event.event, event.data, event.id) for event in EventSource(response).iter_sse()]
    # It also yields what has no data, which an EventSource does not dispatch.
    assert [event for event in received if event[1] or event in case.dispatched] == case.dispatched
