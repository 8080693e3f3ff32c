"""Metrics of requests: how many wait for their answer, and a number of series that clients cannot raise."""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from quart.testing import QuartClient

from app.web.middleware.request_log import count_in_flight
from app.web.telemetry import PrometheusTelemetry

START = {"type": "http.response.start", "status": 200, "headers": []}
# The messages that an application sends, and how many wait after each.
ANSWERS = {
    "response": ("http", [START, {"type": "http.response.body", "body": b""}], [0, 0]),
    "handshake": ("websocket", [{"type": "websocket.accept"}, {"type": "websocket.close"}], [0, 0]),
    "refused handshake": ("websocket", [{"type": "websocket.close"}], [0]),
    "interim response": ("http", [{"type": "http.response.early_hint"}, START, START], [1, 0, 0]),
    "no answer": ("http", [], []),
}


def waiting(telemetry: PrometheusTelemetry) -> float:
    value = telemetry.registry.get_sample_value("quartet_http_requests_in_flight")
    assert value is not None
    return value


@pytest.mark.parametrize("ends", [None, ValueError("a defect"), asyncio.CancelledError()], ids=str)
@pytest.mark.parametrize(("kind", "messages", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_a_request_is_in_flight_until_its_answer_begins(
    kind: str, messages: list[dict[str, Any]], expected: list[int], ends: BaseException | None
) -> None:
    telemetry = PrometheusTelemetry(version="1")
    found = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert waiting(telemetry) == 1
        for message in messages:
            await send(message)
        if ends is not None:
            raise ends

    async def send(message: Any) -> None:
        found.append(waiting(telemetry))

    counted = count_in_flight(app, telemetry)
    with pytest.raises(type(ends)) if ends else nullcontext():
        await counted({"type": kind}, None, send)
    assert found == expected
    assert waiting(telemetry) == 0


async def metrics(client: QuartClient) -> dict[str, float]:
    """The value of each series."""
    answer = await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})
    families = text_string_to_metric_families(await answer.get_data(as_text=True))
    return {f"{each.name}{sorted(each.labels.items())}": each.value for family in families for each in family.samples}


@pytest.mark.parametrize("amount", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_clients_cannot_make_series(client: QuartClient, amount: int) -> None:
    async def ask(number: int) -> None:
        method = ("GET", "POST", f"X{number}")[number % 3]
        headers = {"Host": f"h{number}.example", "X-Request-ID": f"request-{number}", "Origin": f"https://{number}"}
        await client.open(f"/unknown-{number}/{number}?a={number}", method=method, headers=headers)
        await client.open(f"/api/v1/notices?page={number}", headers={"User-Agent": f"a{number}"})

    for number in range(6):
        await ask(number)
    # This request too is counted once.
    await metrics(client)
    before = await metrics(client)
    assert before["quartet_http_requests_in_flight[]"] == 1
    for number in range(6, amount):
        await ask(number)
    after = await metrics(client)
    assert after.keys() == before.keys()
    unmatched = [key for key in after if "unmatched" in key and "http_requests_total" in key]
    assert sum(after[key] for key in unmatched) == amount
    assert len(unmatched) < 10
