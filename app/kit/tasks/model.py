"""What goes into the queue and comes out of it: calls and receipts, claims and reports, depths and infos."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import msgspec

Priority = Literal["high", "normal", "low"]
TaskState = Literal["scheduled", "queued", "running", "done", "failed", "aborted"]
ReportKind = Literal["done", "retry", "dead", "abort", "release", "progress"]

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")


def is_task_id(text: str) -> bool:
    """True for 1 to 128 letters, digits and `:._-`, the first one a letter or a digit."""
    return _TASK_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One task to enqueue. A repeat with the same `id` changes nothing, for as long as the queue knows the id.

    `payload` is JSON. The task starts no earlier than `delay_seconds` from now, and no earlier than `at` (epoch
    seconds). `unique`: while a task of this name with this key waits or runs, no second one is accepted. `owner`: the
    id of the user who may read the task. ValueError: the id or the priority is invalid.
    """

    name: str
    payload: bytes = b"null"
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    delay_seconds: float = 0
    at: float = 0
    priority: Priority = "normal"
    unique: str | None = None
    owner: int | None = None

    def __post_init__(self) -> None:
        if not is_task_id(self.id):
            raise ValueError("a task id has 1 to 128 letters, digits and :._-")
        if self.priority not in PRIORITIES:
            raise ValueError(f"a priority is one of {', '.join(PRIORITIES)}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """`id`: of this task, or of the one that holds its `unique` key. `position`: how many wait before it.

    The position is None for a task that is scheduled or was known before.
    """

    id: str
    position: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that a worker holds. `token` is the fencing token of its lease: it grows with each claim of the queue."""

    id: str
    token: int
    name: str
    payload: bytes
    attempt: int
    owner: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a claim, or its progress. `ms`: how long to keep the result (done), or to wait (retry).

    `text` is the result as JSON (done), the error (retry, dead), or the percentage (progress).
    """

    id: str
    token: int
    kind: ReportKind
    ms: int = 0
    text: bytes | str | int = b""


class Depth(TypedDict):
    """How many tasks are in each place; `oldest_seconds`: the age of the oldest one that is ready."""

    high: int
    normal: int
    low: int
    scheduled: int
    running: int
    dead: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """The state of a task. Times are epoch seconds by Redis' clock; `progress` is 0 to 100, `result` decoded JSON."""

    id: str
    name: str
    state: TaskState
    progress: int
    attempts: int
    deaths: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    result: Any
    error: str | None
    owner: int | None

    @classmethod
    def from_record(cls, task_id: str, record: Mapping[bytes, bytes]) -> "TaskInfo":
        """`record` is the task's hash as Redis holds it."""

        def seconds(name: bytes) -> float | None:
            return int(record[name]) / 1000 if name in record else None

        state: Any = record[b"state"].decode()
        return cls(
            id=task_id,
            name=record[b"name"].decode(),
            state=state,
            progress=int(record.get(b"progress", 0)),
            attempts=int(record.get(b"attempts", 0)),
            deaths=int(record.get(b"deaths", 0)),
            created_at=seconds(b"created") or 0.0,
            started_at=seconds(b"started"),
            finished_at=seconds(b"finished"),
            result=msgspec.json.decode(record[b"result"]) if b"result" in record else None,
            error=record[b"error"].decode() if b"error" in record else None,
            owner=int(record[b"owner"]) if b"owner" in record else None,
        )
