"""Traces by OpenTelemetry (the extra `otel`): spans of requests, batches of Redis commands, SQL statements, tasks.

Loaded only where OTEL_EXPORTER_OTLP_ENDPOINT is set. Nothing that a client sent is in a span.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

EXPORT_TIMEOUT_SECONDS = 5
LAST_SECONDS = 2.0
TRACES_PATH = "/v1/traces"
PARENT = b"traceparent"
logger = logging.getLogger(__name__)
_propagator = TraceContextTextMapPropagator()

App = Callable[[Any, Any, Any], Awaitable[None]]


class OpenTelemetry:
    """app.kit.tracing.Tracing. Spans go to `endpoint` (OTLP over HTTP), from a thread, between start() and close()."""

    def __init__(self, endpoint: str, *, sample_ratio: float, name: str, version: str, role: str) -> None:
        self._endpoint = endpoint.rstrip("/") + TRACES_PATH
        resource = Resource({"service.name": name, "service.version": version, "quartet.role": role})
        # What is sampled by its caller is sampled here, so that no trace has holes.
        sampler = ParentBased(TraceIdRatioBased(sample_ratio))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("quartet", version)
        self._batches: ContextVar[RedisBatch | None] = ContextVar("redis_batch", default=None)

    def start(self) -> None:
        exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    async def close(self) -> None:
        """Send what is left, for LAST_SECONDS at most."""
        await asyncio.to_thread(self._provider.force_flush, int(LAST_SECONDS * 1000))
        await asyncio.to_thread(self._provider.shutdown)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        # Also of a trace that is not sampled: what follows from it is not sampled either.
        _propagator.inject(carrier)
        return carrier.get("traceparent")

    @contextmanager
    def span(self, name: str, *, parent: str | None, **attributes: str | int) -> Iterator[Span]:
        context, kind = _context(parent), SpanKind.CONSUMER
        with self._tracer.start_as_current_span(name, context, kind, attributes=attributes) as span:
            yield span

    def around_requests(self, app: App, *, route: Callable[[], str], trusts: Callable[[Any], bool]) -> App:
        """A span a request, until its response has been sent. `trusts`: whether the peer may name the trace."""

        async def traced(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            given = next((value for name, value in scope["headers"] if name == PARENT), b"")
            context = _context(given.decode("latin-1") if given and trusts(scope) else None)
            method = scope.get("method", "GET")
            with self._tracer.start_as_current_span(method, context, SpanKind.SERVER) as span:

                async def record(message: Any) -> None:
                    if "status" in message or message["type"] == "websocket.accept":
                        _describe(span, method, route(), message.get("status", 101))
                    await send(message)

                await app(scope, receive, record)

        return traced

    def observe_command(self, args: Sequence[Any]) -> Callable[[], None] | None:
        """The commands that one place issues in one turn of the loop share a span: they travel together."""
        if not trace.get_current_span().is_recording():
            return None
        batch = self._batches.get()
        if batch is None or batch.is_sent:
            batch = RedisBatch(self._tracer.start_span("redis", kind=SpanKind.CLIENT))
            self._batches.set(batch)
            asyncio.get_running_loop().call_soon(batch.sent)
        return batch.add(str(args[0]))

    def observe_statements(self, engine: AsyncEngine) -> None:
        """A span a statement; without its parameters."""

        def begin(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
            if trace.get_current_span().is_recording():
                attributes = {"db.system.name": engine.dialect.name, "db.query.text": statement}
                operation = statement.lstrip().partition(" ")[0].upper()
                span = self._tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
                context.quartet_span = span

        def end(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
            span: Span | None = getattr(context, "quartet_span", None)
            if span is not None:
                span.end()

        def fail(failure: Any) -> None:
            span: Span | None = getattr(failure.execution_context, "quartet_span", None)
            if span is not None:
                # Not its text, which may repeat a value.
                span.set_status(Status(StatusCode.ERROR, type(failure.original_exception).__name__))
                span.end()

        event.listen(engine.sync_engine, "before_cursor_execute", begin)
        event.listen(engine.sync_engine, "after_cursor_execute", end)
        event.listen(engine.sync_engine, "handle_error", fail)


class RedisBatch:
    """A span that ends with the last reply to its commands."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._names: list[str] = []
        self._open = 0
        self.is_sent = False

    def add(self, name: str) -> Callable[[], None]:
        self._names.append(name)
        self._open += 1
        return self._answered

    def sent(self) -> None:
        self.is_sent = True

    def _answered(self) -> None:
        self._open -= 1
        if not self._open:
            self._span.set_attribute("db.system.name", "redis")
            self._span.set_attribute("db.operation.batch.size", len(self._names))
            self._span.set_attribute("db.operation.name", " ".join(self._names))
            self._span.end()


def current_trace_id() -> str | None:
    """Of the span that is recorded now, as in a traceparent."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else None


def _context(traceparent: str | None) -> Context:
    # Never that of the caller: a worker's loop was started by something else.
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _describe(span: Span, method: str, route: str, status: int) -> None:
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
