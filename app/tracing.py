"""Traces, where they are asked for: the one place that loads OpenTelemetry."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app import __version__
from app.db.database import Database
from app.kit.client.observed import observe_commands
from app.kit.tasks.context import TaskContext
from app.kit.tasks.executor import Middleware
from app.kit.tracing import Tracing
from app.settings import Settings, SettingsError


class Tracer(Tracing, Protocol):
    """What app.otel makes: spans, of which those of commands and statements come from observers."""

    def start(self) -> None: ...
    async def close(self) -> None: ...
    def observe_command(self, args: Sequence[Any]) -> Callable[[], None] | None: ...
    def observe_statements(self, engine: AsyncEngine) -> None: ...
    def around_requests(self, app: Any, *, route: Callable[[], str], trusts: Callable[[Any], bool]) -> Any: ...


@asynccontextmanager
async def observing(tracer: Tracer, clients: Collection[Redis], database: Database) -> AsyncIterator[None]:
    """Trace the commands of these clients and the statements of the database, and send the spans, during the block."""
    for client in clients:
        observe_commands(client, tracer.observe_command)
    for engine in database.engines():
        tracer.observe_statements(engine)
    tracer.start()
    try:
        yield
    finally:
        await tracer.close()


def in_trace(tracing: Tracing) -> Middleware:
    """Middleware of the worker: a span an attempt, in the trace of what enqueued the task."""

    async def run(context: TaskContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        attributes: dict[str, str | int] = {"quartet.task.id": context.id, "quartet.task.attempt": context.attempt}
        with tracing.span(f"task {context.name}", parent=context.traceparent, **attributes):
            return await call_next()

    return run


def check_tracer(settings: Settings) -> None:
    """SettingsError: traces are asked for, and the extra is not installed."""
    if settings.otel_exporter_otlp_endpoint and not _is_installed():
        raise SettingsError(["OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra otel (pip install 'quartet[otel]')"])


def _is_installed() -> bool:
    try:
        return all(find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        # A package above it.
        return False


def trace_fields() -> dict[str, str | None]:
    """For log lines: the id of the trace that runs now; none before the first tracer is made."""
    otel = sys.modules.get("app.otel")
    return {"trace_id": otel.current_trace_id()} if otel else {}


def make_tracer(settings: Settings, *, role: str) -> Tracer | None:
    """None unless OTEL_EXPORTER_OTLP_ENDPOINT is set. SettingsError: the extra is not installed."""
    if not settings.otel_exporter_otlp_endpoint:
        return None
    check_tracer(settings)
    made: Tracer = import_module("app.otel").OpenTelemetry(
        settings.otel_exporter_otlp_endpoint,
        sample_ratio=settings.otel_traces_sampler_arg,
        name=settings.namespace,
        version=__version__,
        role=role,
    )
    return made
