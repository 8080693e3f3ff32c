"""What the owner of a task and an admin see of it: its state, its events, and its abort."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from quart import Blueprint, Response, current_app, jsonify
from quart_schema import document_response, tag_blueprint

from app.errors import Conflict, Forbidden, NotFound
from app.kit.events.event import Cursor, Message
from app.kit.events.sse import encode_frame, encode_message, encode_retry
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.queue import Queue
from app.principal import Principal
from app.web.answers import answers
from app.web.context import resources
from app.web.identity.auth import current_principal, require_auth
from app.web.identity.grants import current_grant
from app.web.limits.declare import exempt
from app.web.sse import event_stream, finite_stream, last_event_id

TASKS_WITH_EVENTS = "quartet_tasks_with_events"
# The events after which a task has ended, by its state.
ENDS = {"done": "done", "failed": "failed", "aborted": "aborted"}
# A stream ends after so long, and its client resumes: an end whose event was lost with its worker is then told anyhow.
STREAM_SECONDS = 60.0

blueprint = Blueprint("tasks", __name__, url_prefix="/api/v1/tasks")
tag_blueprint(blueprint, ["tasks"])


@dataclass(frozen=True, slots=True)
class TaskShown:
    """`state`: held (by its parent in a chain), scheduled, queued, running, done, failed or aborted.

    `progress`: 0 to 100.
    """

    id: str
    name: str
    state: str
    progress: int
    attempts: int
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    result: Any
    error: str | None

    @classmethod
    def of(cls, info: TaskInfo) -> "TaskShown":
        return cls(
            id=info.id,
            name=info.name,
            state=info.state,
            progress=info.progress,
            attempts=info.attempts,
            created_at=moment(info.created_at),
            started_at=moment(info.started_at),
            finished_at=moment(info.finished_at),
            result=info.result,
            error=info.error,
        )


@dataclass(frozen=True, slots=True)
class AbortAccepted:
    id: str


def moment(seconds: float | None) -> datetime | None:
    """Epoch seconds as a time in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def keep_names(app: Any, names: Collection[str]) -> None:
    """Tell the routes which tasks have events: Task.events of the tasks of these names is true."""
    app.extensions[TASKS_WITH_EVENTS] = frozenset(names)


@blueprint.get("/<task_id>")
@require_auth()
@document_response(TaskShown)
async def show(task_id: str) -> Response:
    """The state of a task. 404 also when it ended longer ago than its result is kept."""
    _, info = await _own_task(task_id)
    return jsonify(TaskShown.of(info))


@blueprint.delete("/<task_id>")
@answers(409)
@require_auth()
@document_response(AbortAccepted, 202)
async def abort(task_id: str) -> tuple[Response, int]:
    """End a task that waits; ask the worker of one that runs to end it. 409: it has ended otherwise."""
    queue, info = await _own_task(task_id)
    if not await queue.abort(info.id):
        raise Conflict("The task has ended.")
    return jsonify(AbortAccepted(info.id)), 202


@blueprint.get("/<task_id>/events")
@answers(200, content_type="text/event-stream", description="The events, until either side ends the stream.")
@answers(204, description="The client has had all events of the task.")
@answers(409)
@require_auth()
@exempt("a stream lasts for minutes, and a 429 would stop an EventSource for good; the number of streams is capped")
async def events(task_id: str) -> Response | tuple[str, int]:
    """A stream of the task's events from its beginning, or after the last event id, which ends with the task.

    204 once the client has had the last event: an EventSource then stays closed. 409: the task publishes no events.
    """
    _, info = await _own_task(task_id)
    if info.name not in current_app.extensions[TASKS_WITH_EVENTS]:
        raise Conflict("This task publishes no events.")
    channel, hub = f"task:{info.id}", resources().hub
    after = Cursor.parse(last_event_id()) or await hub.cursor_at(info.created_at)
    if info.finished_at is None:
        grant = current_grant(lambda reader: _may_see(info, reader))
        return await event_stream(
            [channel], last_event_id=str(after), until=ENDS.values(), grant=grant, seconds=STREAM_SECONDS
        )
    messages, now = await hub.replay(channel, after)
    return _rest_of(info, messages, now) if messages or last_event_id() is None else ("", 204)


def _rest_of(info: TaskInfo, messages: list[Message], now: Cursor) -> Response:
    """What the client of a task that has ended still misses. The end is told even where its event was lost."""
    frames = [encode_message(message).data for message in messages]
    end = ENDS[info.state]
    if not messages or messages[-1].type != end:
        data = {"type": end, "data": {"error": info.error} if end == "failed" else {}}
        frames.append(encode_frame(msgspec.json.encode(data), event=end, event_id=str(now)))
    return finite_stream(b"".join([encode_retry(), *frames]))


def _may_see(info: TaskInfo, reader: Principal | None) -> bool:
    return reader is not None and (reader.is_admin or info.owner == reader.user_id)


async def _own_task(task_id: str) -> tuple[Queue, TaskInfo]:
    """The task and its queue. Forbidden: the principal neither owns it nor is an admin."""
    for queue in resources().queues.values():
        info = await queue.get(task_id)
        if info is not None:
            if not _may_see(info, current_principal()):
                raise Forbidden("This task is not yours.")
            return queue, info
    raise NotFound("There is no such task, or it ended longer ago than its result is kept.")
