"""What an admin sees of the running service, and does with its dead tasks."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict, Field
from quart import Blueprint, Response, current_app, jsonify
from quart_schema import document_response, tag_blueprint, validate_querystring

from app.errors import Invalid, NotFound
from app.kit.tasks.info import TaskInfo, WorkerInfo
from app.kit.tasks.queue import Place, Queue
from app.web.answers import answers
from app.web.context import resources
from app.web.identity.auth import require_role
from app.web.links import links
from app.web.number import PLAIN_DIGITS
from app.web.routes.metrics import TELEMETRY_EXTENSION
from app.web.routes.tasks import moment
from app.web.telemetry import PrometheusTelemetry

SAMPLES = "quartet_task_samples"
# Totals are remembered no longer than this, so that a rate is one of now.
SAMPLE_SECONDS = 300.0

blueprint = Blueprint("operations", __name__, url_prefix="/api/v1/admin")
tag_blueprint(blueprint, ["admin"])


class QueueQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    queue: str = "default"


class ListQuery(QueueQuery):
    """Tasks of one place; a page past the end is empty."""

    place: Place = "dead"
    offset: Annotated[int, Field(ge=0, le=1_000_000), PLAIN_DIGITS] = 0
    limit: Annotated[int, Field(ge=1, le=100), PLAIN_DIGITS] = 100


@dataclass(frozen=True, slots=True)
class TaskListed:
    """A task as an operator sees it. `error` of a dead one is why it is dead; `deaths`: of its workers."""

    id: str
    name: str
    queue: str
    state: str
    progress: int
    priority: str
    attempts: int
    deaths: int
    owner_id: int | None
    worker: str | None
    created_at: datetime | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, info: TaskInfo, queue: str) -> "TaskListed":
        return cls(
            id=info.id,
            name=info.name,
            queue=queue,
            state=info.state,
            progress=info.progress,
            priority=info.priority,
            attempts=info.attempts,
            deaths=info.deaths,
            owner_id=info.owner,
            worker=info.worker,
            created_at=moment(info.created_at),
            due_at=moment(info.due_at),
            started_at=moment(info.started_at),
            finished_at=moment(info.finished_at),
            error=info.error,
        )


@dataclass(frozen=True, slots=True)
class TaskList:
    tasks: list[TaskListed]


@dataclass(frozen=True, slots=True)
class Requeued:
    requeued: int


@dataclass(frozen=True, slots=True)
class Purged:
    purged: int


@dataclass(frozen=True, slots=True)
class Stats:
    """`queues`: by name depth, oldest age, totals, workers and, since the last call of this route, rates a second.

    `cache` and `limits` are counts of this process since its start.
    """

    queues: dict[str, dict[str, Any]]
    streams: dict[str, Any]
    cache: dict[str, float]
    limits: dict[str, float]


@blueprint.get("/tasks")
@answers(200, headers=("Link",))
@require_role("admin")
@validate_querystring(ListQuery)
@document_response(TaskList)
async def list_place(query_args: ListQuery) -> Response:
    """The tasks in one place of a queue: waiting, scheduled, running or dead."""
    queue = _queue(query_args)
    size = query_args.limit
    # One more than is shown tells whether there are more.
    found = await queue.tasks(query_args.place, offset=query_args.offset, limit=size + 1)
    response = jsonify(TaskList([TaskListed.of(info, queue.name) for info in found[:size]]))
    if len(found) > size:
        following = query_args.model_dump() | {"offset": query_args.offset + size}
        response.headers.update(links("operations.list_place", {"next": following}))
    return response


@blueprint.post("/tasks/requeue")
@require_role("admin")
@validate_querystring(QueueQuery)
@document_response(Requeued)
async def requeue_all(query_args: QueueQuery) -> Response:
    """Enqueue every dead task again, with all attempts before it."""
    return jsonify(Requeued(await _queue(query_args).requeue()))


@blueprint.post("/tasks/purge")
@require_role("admin")
@validate_querystring(QueueQuery)
@document_response(Purged)
async def purge_all(query_args: QueueQuery) -> Response:
    """Delete every dead task."""
    return jsonify(Purged(await _queue(query_args).purge()))


@blueprint.post("/tasks/<task_id>/requeue")
@require_role("admin")
@validate_querystring(QueueQuery)
@document_response(Requeued)
async def requeue(task_id: str, query_args: QueueQuery) -> Response:
    """Enqueue a dead task again. 404: none of this id is dead, or another task holds its unique key."""
    return jsonify(Requeued(_found(await _queue(query_args).requeue(task_id))))


@blueprint.post("/tasks/<task_id>/purge")
@require_role("admin")
@validate_querystring(QueueQuery)
@document_response(Purged)
async def purge(task_id: str, query_args: QueueQuery) -> Response:
    """Delete a dead task. 404: none of this id is dead."""
    return jsonify(Purged(_found(await _queue(query_args).purge(task_id))))


@blueprint.get("/stats")
@require_role("admin")
@document_response(Stats)
async def stats() -> Response:
    """What the queues, the streams, the cache and the limits do."""
    found = resources()
    telemetry: PrometheusTelemetry = current_app.extensions[TELEMETRY_EXTENSION]
    return jsonify(
        Stats(
            queues={name: await _queue_stats(queue) for name, queue in found.queues.items()},
            streams={"open": found.hub.streams, "draining": found.hub.draining},
            cache=telemetry.totals("cache_"),
            limits=telemetry.totals("rate_limit", by="outcome"),
        )
    )


async def _queue_stats(queue: Queue) -> dict[str, Any]:
    totals = await queue.totals()
    return {
        "depth": await queue.depth(),
        "totals": totals,
        "rates": _rates(queue.name, totals),
        "workers": [_worker(worker) for worker in await queue.workers()],
    }


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    health = asdict(worker.health) | {"started_at": moment(worker.health.started_at)}
    return {"id": worker.id, "seen_at": moment(worker.seen_at), **health}


def _rates(name: str, totals: dict[str, int]) -> dict[str, float] | None:
    """Changes a second since the last call of this process; None without one in the last SAMPLE_SECONDS."""
    samples: dict[str, tuple[float, dict[str, int]]] = current_app.extensions.setdefault(SAMPLES, {})
    now = time.monotonic()
    before = samples.get(name)
    samples[name] = (now, totals)
    if before is None or not 0 < now - before[0] <= SAMPLE_SECONDS:
        return None
    return {what: round((amount - before[1].get(what, 0)) / (now - before[0]), 3) for what, amount in totals.items()}


def _queue(query: QueueQuery) -> Queue:
    queue = resources().queues.get(query.queue)
    if queue is None:
        raise Invalid([{"loc": ["queue"], "msg": f"no such queue; there are {', '.join(resources().queues)}"}])
    return queue


def _found(amount: int) -> int:
    if not amount:
        raise NotFound("No dead task of this id, or another task holds its unique key.")
    return amount
