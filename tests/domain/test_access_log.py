"""One line a request, with the route's template and who asked; what no route matches, by its path."""

import json
import logging
from typing import Any

import pytest

from app.logs import FieldsFilter, make_formatter
from app.web.edge.edge import LONGEST_PATH
from app.web.middleware.request_log import log_fields
from tests.domain.client import Client


async def test_the_line_of_each_request(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(make_formatter(is_production=True))
    caplog.handler.addFilter(FieldsFilter(log_fields))
    caplog.set_level(logging.INFO)
    ada = await client.registered()
    by_key = await ada.by_api_key()
    caplog.clear()

    async def lines(one: Client, path: str) -> list[dict[str, Any]]:
        caplog.clear()
        answer = await one.get(path)
        written = [json.loads(line) for line in caplog.text.splitlines()]
        assert {line["request_id"] for line in written} == {answer.headers["X-Request-ID"]}
        return written

    for one, principal in ((client, None), (ada, ada.user_id), (by_key, ada.user_id)):
        [line] = await lines(one, f"/users/{ada.user_id}?token=a-token")
        assert isinstance(line.pop("duration_ms"), float)
        assert line.pop("timestamp")
        assert line.pop("request_id")
        expected: dict[str, Any] = {"level": "info", "logger": "app.requests", "event": "request", "method": "GET"}
        expected |= {"route": "/api/v1/users/<int:user_id>", "status": 200}
        assert line == (expected | {"principal": principal} if principal else expected)
    session = ada.headers["X-Session-ID"]
    [line] = await lines(client, f"/none/%0D%0A%1B/{session}/{'x' * 1000}")
    assert (line["route"], line["status"]) == ("unmatched", 404)
    assert line["path"].startswith("/api/v1/none/\\r\\n\\x1b/***/xxx")
    assert len(line["path"]) < LONGEST_PATH
    assert ada.headers["X-Session-ID"] not in caplog.text
