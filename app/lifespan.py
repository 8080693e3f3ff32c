"""Opens the resources, yields them, and closes them in reverse order; no other module opens or closes any."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio import Redis

from app.blocks import make_blocks
from app.db.database import Database
from app.errors import Unavailable
from app.kit.aio import end_tasks
from app.kit.client.checks import warn_if_not_durable
from app.kit.client.connect import connect
from app.kit.client.deployment import deployment
from app.kit.client.errors import UNAVAILABLE
from app.kit.events.handler import EventHandler
from app.kit.events.subscriber import Subscriber
from app.kit.keys import Keys
from app.kit.loop_lag import LoopLag
from app.kit.sessions.revocation import Revocations
from app.kit.supervisor import Job, all_supervised, supervised
from app.kit.tasks.schedule import Entry
from app.kit.tasks.task import Task
from app.kit.tasks.worker import Worker
from app.kit.telemetry import Telemetry
from app.logs import make_formatter
from app.mail import MailFailed
from app.recent_writers import RecentWriters
from app.resources import Resources
from app.settings import Settings
from app.tracing import Tracer, in_trace, observing
from app.web.identity.grants import StreamRevocations

# How long work outside a request may wait for Redis.
BACKGROUND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Jobs:
    """The tasks that the worker runs, and the schedule of the recurring ones."""

    tasks: tuple[Task[Any], ...]
    schedule: tuple[Entry, ...] = ()


@asynccontextmanager
async def open_resources(
    settings: Settings, *, role: str, telemetry: Telemetry, tracer: Tracer | None = None
) -> AsyncIterator[Resources]:
    """Make the clients and the blocks. `role` names this process in Redis' CLIENT LIST; `tracer`: see make_tracer().

    Clients connect at first use, so a backend that is down does not stop the start; /health/ready reports it.
    """
    async with AsyncExitStack() as stack:
        redis = connect(settings.redis_url, name=_client_name(settings, role), timeout_seconds=BACKGROUND_SECONDS)
        stack.push_async_callback(redis.aclose)
        cache_redis = redis
        if settings.cache_redis_url:
            name = _client_name(settings, f"{role}-cache")
            cache_redis = connect(settings.cache_redis_url, name=name, timeout_seconds=BACKGROUND_SECONDS)
            stack.push_async_callback(cache_redis.aclose)
        keys = Keys(settings.namespace)
        seconds = settings.database_read_own_writes_seconds
        database = Database(
            settings.database_url,
            settings.database_replica_url or None,
            writers=RecentWriters(redis, keys, seconds=seconds, telemetry=telemetry),
            pool_size=settings.database_pool_size,
            max_overflow=settings.database_max_overflow,
            pool_timeout_seconds=settings.database_pool_timeout_seconds,
            connect_timeout_seconds=settings.database_connect_timeout_seconds,
            statement_timeout_seconds=settings.database_statement_timeout_seconds,
            pre_ping=settings.database_pre_ping,
        )
        stack.push_async_callback(database.close)
        if tracer is not None:
            await stack.enter_async_context(observing(tracer, {redis, cache_redis}, database))
        clients = {"redis": redis, "cache_redis": cache_redis}
        resources = make_blocks(settings, keys, **clients, database=database, telemetry=telemetry, tracing=tracer)
        await resources.hub.start()
        stack.push_async_callback(resources.hub.close)
        yield resources


@asynccontextmanager
async def relaying(resources: Resources) -> AsyncIterator[None]:
    """Relay the outbox during the block, and at its end the last commits of this process; measure the loop's lag."""
    makes: dict[str, Callable[[], Job]] = {
        "outbox": lambda: resources.outbox,
        "loop_lag": lambda: LoopLag(resources.telemetry),
    }
    async with all_supervised(makes, telemetry=resources.telemetry):
        yield


@asynccontextmanager
async def streaming(resources: Resources) -> AsyncIterator[None]:
    """End event streams whose credentials end, and tell who is online, during the block."""
    redis, keys, telemetry = resources.redis, resources.keys, resources.telemetry
    listener = StreamRevocations(resources.hub)
    async with (
        supervised("revocations", lambda: Revocations(redis, keys, listener, telemetry=telemetry), telemetry=telemetry),
        supervised("presence", lambda: resources.presence, telemetry=telemetry),
    ):
        yield


@asynccontextmanager
async def subscribing(resources: Resources, handlers: Sequence[EventHandler]) -> AsyncIterator[None]:
    """Call the handlers of events in this loop during the block; at its end they get their grace period."""
    if not handlers:
        yield
        return

    def make_subscriber() -> Subscriber:
        telemetry = resources.telemetry
        return Subscriber(
            resources.redis,
            resources.keys,
            handlers,
            resources=resources,
            telemetry=telemetry,
            tracing=resources.tracing,
        )

    async with supervised("subscriber", make_subscriber, telemetry=resources.telemetry):
        yield


@asynccontextmanager
async def consuming(
    settings: Settings,
    resources: Resources,
    jobs: Jobs,
    *,
    queues: Sequence[str] = (),
    concurrency: int | None = None,
) -> AsyncIterator[None]:
    """Run background tasks in this loop during the block; at its end they get their grace period.

    `queues` and `concurrency` are those of the settings unless given. Each queue has a worker, which runs up to
    `concurrency` tasks at a time. The schedule belongs to the default queue.
    """

    middleware = [in_trace(resources.tracing)] if resources.tracing else []

    async def publish_event(task_id: str, type: str, data: Any) -> None:
        await resources.publisher.publish(f"task:{task_id}", type, data)

    def make_worker(name: str) -> Worker:
        return Worker(
            resources.queues[name],
            jobs.tasks,
            resources=resources,
            schedule=jobs.schedule if name == resources.queue.name else (),
            concurrency=concurrency or settings.worker_concurrency,
            lease_seconds=settings.task_lease_seconds,
            grace_seconds=settings.task_grace_seconds,
            connect_leases=_lease_client(settings, resources.redis),
            publish_event=publish_event,
            middleware=middleware,
            outages=(*UNAVAILABLE, Unavailable, MailFailed),
            child_formatter=make_formatter(is_production=settings.is_production),
            telemetry=resources.telemetry,
        )

    served = queues or settings.consumer_queues or settings.queues
    makes = {f"worker:{name}": partial(make_worker, name) for name in served}
    # Concurrently: a server that does not answer must not delay the start.
    warning = asyncio.create_task(warn_if_not_durable(resources.redis))
    try:
        async with all_supervised(makes, telemetry=resources.telemetry):
            yield
    finally:
        await end_tasks([warning])


def _client_name(settings: Settings, role: str) -> str:
    return f"{settings.namespace}:{socket.gethostname()}:{os.getpid()}:{role}"


def _lease_client(settings: Settings, redis: Redis) -> Callable[[], Any] | None:
    """Leases are renewed from a thread over a connection of its own; the embedded store has none to offer."""
    if deployment(redis).is_embedded:
        return None
    name = _client_name(settings, "leases")
    return partial(connect, settings.redis_url, name=name, timeout_seconds=BACKGROUND_SECONDS)
