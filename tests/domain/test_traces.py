"""A trace holds a request, its Redis batches and statements, the tasks that follow and the handlers of their events."""

import logging
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import check_urls, create_app
from app.kit.events.event import Event
from app.kit.events.handler import on_event
from app.logs import FieldsFilter
from app.resources import Resources
from app.settings import Settings, SettingsError, load_settings
from app.tracing import trace_fields
from app.web.context import EXTENSION
from tests.collector import Collected, collecting
from tests.commands import quartet
from tests.domain.client import Client
from tests.notices import SLICE as NOTICES
from tests.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"
seen: list[Event] = []


@on_event("notice_pinned")
async def on_pinned(resources: Resources, event: Event) -> None:
    logging.getLogger("handler").warning("pinned")
    seen.append(event)


async def test_a_trace_from_the_request_to_the_last_handler(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    seen.clear()
    caplog.handler.addFilter(FieldsFilter(trace_fields))
    caplog.set_level(logging.INFO)
    slices = [*_users(), replace(NOTICES, handlers=(on_pinned,))]
    with collecting() as collector:
        traced = settings.model_copy(update={"otel_exporter_otlp_endpoint": collector.url, "consumer": True})
        app = create_app(traced, slices=slices)
        async with app.test_app():
            ada = await Client(app).registered()
            answer = await ada.post("/notices", {"text": "hunter2"}, traceparent=GIVEN)
            assert answer.status_code == 201
            await eventually(lambda: bool(seen))
            assert (await Client(app).get("/none", traceparent="junk")).status_code == 404
            assert app.extensions[EXTENSION].tracing is not None
        spans = collector.spans()
        assert not [
            body for body in collector.bodies if b"hunter2" in body or ada.headers["X-Session-ID"].encode() in body
        ]
    assert seen[0].traceparent is not None
    of_trace = [span for span in spans if span.trace_id == TRACE]
    [request] = [span for span in of_trace if span.name == "POST /api/v1/notices"]
    assert (request.parent_id, request.attributes["http.response.status_code"]) == ("b7ad6b7169203331", "201")
    [task] = [span for span in of_trace if span.name == "task pin_notice"]
    [handler] = [span for span in of_trace if span.name == "event on_pinned"]
    inside = {span.span_id: span for span in of_trace}
    assert request.span_id in ancestors(task, inside)
    assert task.span_id in ancestors(handler, inside)
    for place in (request, task):
        assert "INSERT" in {span.name for span in of_trace if span.parent_id == place.span_id}
    batches = [span for span in of_trace if span.name == "redis" and span.parent_id == request.span_id]
    assert sum(int(batch.attributes["db.operation.batch.size"]) for batch in batches) >= len(batches) > 0
    [unmatched] = [span for span in spans if span.name == "GET unmatched"]
    assert (unmatched.trace_id != TRACE, unmatched.parent_id) == (True, "")
    lines = {record.name: vars(record).get("trace_id") for record in caplog.records}
    assert lines["handler"] == TRACE
    assert TRACE in {vars(record).get("trace_id") for record in caplog.records if record.name == "app.requests"}


def _users() -> list[Slice]:
    return [each for each in SLICES if each.blueprint.name == "users"]


def ancestors(span: Collected, spans: dict[str, Collected]) -> set[str]:
    found = set()
    while span.parent_id in spans:
        found.add(span.parent_id)
        span = spans[span.parent_id]
    return found


OFF = """\
import sys
print("loaded", "opentelemetry.exporter.otlp" in sys.modules, "app.otel" in sys.modules)
print("observed", "execute_command" in vars(resources.redis), resources.tracing)
"""


def test_without_an_endpoint_nothing_is_loaded_and_nothing_observed(tmp_path: Path) -> None:
    done = quartet(tmp_path, "shell", input=OFF)
    assert "loaded False False" in done.stdout, done.stderr
    assert "observed False None" in done.stdout


OF_TRACES = ("/app/otel.py", "/app/tracing.py", "/kit/tracing.py", "/client/observed.py", "/opentelemetry/")


async def test_without_an_endpoint_a_request_and_its_task_call_nothing_of_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # Those of the tests before.
    caplog.handler.filters.clear()
    seen.clear()
    slices = [*_users(), replace(NOTICES, handlers=(on_pinned,))]
    app = create_app(settings.model_copy(update={"consumer": True, "environment": "testing"}), slices=slices)
    called: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        called[frame.f_code.co_filename] += event == "call"

    async with app.test_app():
        ada = await Client(app).registered()
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            assert (await ada.post("/notices", {"text": "a"}, traceparent=GIVEN)).status_code == 201
            assert (await ada.get("/notices", traceparent=GIVEN)).status_code == 200
            await eventually(lambda: bool(seen))
        finally:
            sys.setprofile(before)
    assert sum(called.values()) > 1000
    assert {path: amount for path, amount in called.items() if any(part in path for part in OF_TRACES)} == {}


def test_traces_without_the_extra_are_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    check_urls(settings)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra otel"):
        check_urls(settings)
