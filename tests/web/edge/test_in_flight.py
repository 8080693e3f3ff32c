"""How many requests wait for their answer, as a metric."""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from quart import Quart

from app.web.edge import edge
from app.web.telemetry import PrometheusTelemetry

START = {"type": "http.response.start", "status": 200, "headers": []}
# The messages that an application sends, and how many wait after each.
ANSWERS: dict[str, tuple[str, list[dict[str, Any]], list[int]]] = {
    "response": ("http", [START, {"type": "http.response.body", "body": b""}], [0, 0]),
    "handshake": ("websocket", [{"type": "websocket.accept", "headers": []}, {"type": "websocket.close"}], [0, 0]),
    "refused handshake": ("websocket", [{"type": "websocket.close"}], [0]),
    "interim response": ("http", [{"type": "http.response.early_hint"}, START, START], [1, 0, 0]),
    "no answer": ("http", [], []),
}


@pytest.mark.parametrize("ends", [None, ValueError("a defect"), asyncio.CancelledError()], ids=str)
@pytest.mark.parametrize(("kind", "messages", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_a_request_is_in_flight_until_its_answer_begins(
    kind: str, messages: list[dict[str, Any]], expected: list[int], ends: BaseException | None
) -> None:
    telemetry = PrometheusTelemetry(version="1")
    found: list[float | None] = []

    def waiting() -> float | None:
        return telemetry.registry.get_sample_value("quartet_http_requests_in_flight")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert waiting() == 1
        for message in messages:
            await send(message)
        if ends is not None:
            raise ends

    async def send(message: Any) -> None:
        found.append(waiting())

    async def receive() -> Any:
        return {"type": f"{kind}.disconnect"}

    app = Quart(__name__)
    app.asgi_app = answer  # type: ignore[method-assign]
    edge.register(app, edge.EdgeOptions(telemetry=telemetry))
    scope: Any = {"type": kind, "path": "/", "scheme": "http", "query_string": b"", "headers": [(b"host", b"a")]}
    with pytest.raises(type(ends)) if ends else nullcontext():
        await app.asgi_app(scope | ({"method": "GET"} if kind == "http" else {}), receive, send)
    assert found == expected
    assert waiting() == 0
