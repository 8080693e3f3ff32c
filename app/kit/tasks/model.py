"""What is asked of the queue (Call), and what it tells of a task (TaskInfo)."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import msgspec

Priority = Literal["high", "normal", "low"]
TaskState = Literal["scheduled", "queued", "running", "done", "failed", "aborted"]

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")


def is_task_id(text: str) -> bool:
    """True for what may stand in a key: 1 to 128 letters, digits and `:._-`."""
    return _TASK_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One task to enqueue. A repeat with the same `id` changes nothing, for as long as the queue knows the id.

    `payload` is JSON. The task starts no earlier than `delay_seconds` from now and than `at` (epoch seconds).
    `unique`: while a task with this key waits or runs, no second one is accepted. `owner`: the user who may ask.
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
    """`id` stands for the call: another's where `unique` found one. `position`: how many wait before it, or None."""

    id: str
    position: int | None


class Depth(TypedDict):
    """Tasks in each place, and how long the oldest one that is ready has existed, in seconds."""

    high: int
    normal: int
    low: int
    scheduled: int
    running: int
    dead: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task as it stands. Times are epoch seconds by Redis' clock; `progress` is 0 to 100; `result` is JSON."""

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
