"""What one reads of the queue: tasks as they stand, and the workers with their health."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from app.kit.tasks.model import LATEST_SECONDS, Priority, TaskState, parse_options, text_of, whole_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """The state of a task. Times are epoch seconds by Redis' clock; `progress` is 0 to 100, `result` decoded JSON.

    `due_at`: when it may start, or could start last. `error` and `traceback` are of the latest failure. `worker`: the
    id of the one that runs it. `children`: the tasks that it holds until it is done.
    """

    id: str
    name: str
    state: TaskState
    priority: Priority
    payload: Any
    progress: int
    attempts: int
    deaths: int
    created_at: float
    due_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    result: Any
    error: str | None
    traceback: str | None
    owner: int | None
    timeout_seconds: float | None
    max_attempts: int | None
    metadata: dict[str, str]
    correlation_id: str | None
    worker: str | None
    children: tuple[str, ...]

    @classmethod
    def from_record(cls, task_id: str, record: Mapping[bytes, bytes]) -> "TaskInfo":
        """`record` is the task's hash as Redis holds it."""

        def text(name: bytes) -> str | None:
            return text_of(record[name]) if name in record else None

        state: Any = text(b"state")
        priority: Any = text(b"priority")
        options = parse_options(record.get(b"options", b""))
        created_at = _epoch_or_none(record.get(b"created")) or 0.0
        return cls(
            id=task_id,
            name=text(b"name") or "",
            state=state,
            priority=priority,
            payload=_decoded(record.get(b"payload")),
            progress=whole_of(record.get(b"progress")) or 0,
            attempts=whole_of(record.get(b"attempts")) or 0,
            deaths=whole_of(record.get(b"deaths")) or 0,
            created_at=created_at,
            due_at=_epoch_or_none(record.get(b"due")) or created_at,
            started_at=_epoch_or_none(record.get(b"started")),
            finished_at=_epoch_or_none(record.get(b"finished")),
            expires_at=_epoch_or_none(record.get(b"expires")),
            result=_decoded(record.get(b"result")),
            error=text(b"error"),
            traceback=text(b"trace"),
            owner=options.owner,
            timeout_seconds=options.timeout_seconds,
            max_attempts=options.max_attempts,
            metadata=options.metadata,
            correlation_id=options.correlation_id,
            worker=text(b"worker") if state == "running" else None,
            children=tuple((text(b"children") or "").split()),
        )


class WorkerHealth(msgspec.Struct, frozen=True):
    """What a worker says of itself: where it runs, how busy it is, and how late its loop was at most since then."""

    host: str
    pid: int
    started_at: float
    concurrency: int
    running: int
    stopping: bool
    loop_lag_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that was seen within the last minute: `seen_at` is epoch seconds by Redis' clock."""

    id: str
    seen_at: float
    health: WorkerHealth

    @classmethod
    def from_entry(cls, worker_id: bytes, entry: bytes) -> "WorkerInfo | None":
        """None for an entry that another version wrote."""
        seen, _, health = entry.partition(b" ")
        seen_at = _epoch_or_none(seen)
        try:
            known = msgspec.json.decode(health, type=WorkerHealth)
        except (ValueError, msgspec.MsgspecError):
            return None
        return None if seen_at is None else cls(text_of(worker_id), seen_at, known)


def _epoch_or_none(data: bytes | None) -> float | None:
    """Epoch ms, in seconds. None also for what is no moment of a datetime."""
    ms = whole_of(data)
    return None if ms is None or not 0 <= ms / 1000 <= LATEST_SECONDS else ms / 1000


def _decoded(data: bytes | None) -> Any:
    """JSON as a value; what is no JSON, as text; None for None."""
    if data is None:
        return None
    try:
        return msgspec.json.decode(data)
    except (ValueError, msgspec.MsgspecError):
        return text_of(data)
