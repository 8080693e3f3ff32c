"""What goes into the queue and comes out of it in one step: calls, claims, reports; and the rules for their values."""

import math
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, TypedDict

import msgspec

from app.kit.durations import check_seconds

Priority = Literal["high", "normal", "low"]
TaskState = Literal["held", "scheduled", "queued", "running", "done", "failed", "aborted"]
ReportKind = Literal["done", "retry", "dead", "abort", "release", "progress"]

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
# A payload, a result. Larger data belongs into a store, and its key into the payload.
MAX_TASK_BYTES = 1024 * 1024
MAX_METADATA_BYTES = 4096
# Of an error; of a stack trace, of which the middle is left out; of one of its lines.
ERROR_CHARACTERS, TRACE_CHARACTERS, LINE_CHARACTERS = 2000, 8000, 500
# 9999-12-31: what a datetime can express.
LATEST_SECONDS = 253_402_300_799.0

# The events of a task are on the channel task:ID, and a channel has up to 64 of these characters.
_TASK_ID = re.compile(r"[a-z0-9][a-z0-9:_-]{0,58}")
_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")


def is_task_id(text: str) -> bool:
    """True for 1 to 59 of a-z, 0-9 and `:_-`, the first one a letter or a digit."""
    return _TASK_ID.fullmatch(text) is not None


def validate_task_id(text: str) -> str:
    """The id. ValueError for one that is_task_id() refuses."""
    if not is_task_id(text):
        raise ValueError(f"a task id has 1 to 59 of a-z, 0-9, ':', '_' and '-': {text[:80]!a}")
    return text


def validate_task_name(text: str) -> str:
    """The name. ValueError unless it has 1 to 100 letters, digits and `_.:-`."""
    if not _TASK_NAME.fullmatch(text):
        raise ValueError(f"a task name has 1 to 100 letters, digits and '_.:-': {text[:120]!a}")
    return text


def validate_seconds(value: float, what: str, *, least: float = 0) -> float:
    """The number. ValueError unless it is finite, at least `least` and no later than the year 9999. TypeError: it is
    none, such as a timedelta."""
    return check_seconds(what, value, least=least, most=LATEST_SECONDS)


def seconds_of(value: float | timedelta) -> float:
    """A duration in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def epoch_of(value: float | datetime) -> float:
    """A moment in epoch seconds. ValueError for a datetime without a time zone."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"a datetime without a time zone: {value}")
    return value.timestamp()


def printable(text: str, most: int) -> str:
    """The first `most` characters, in which what UTF-8 cannot encode is escaped."""
    return text[:most].encode("utf-8", "backslashreplace").decode()


def text_of(data: bytes) -> str:
    """What Redis holds, as text. Other programs may have written it: nothing that is in the queue ends a worker."""
    return data.decode("utf-8", "backslashreplace")


def whole_of(data: bytes | None) -> int | None:
    """What Redis holds, as a whole number. None: there is none, or it is no number of 64 bits."""
    try:
        number = int(data or b"")
    except ValueError:
        return None
    return number if abs(number) < 1 << 63 else None


class CallOptions(msgspec.Struct, frozen=True, omit_defaults=True, array_like=False):
    """What a call says that only the worker that runs it, and a reader of the task, need to know."""

    owner: int | None = None
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    metadata: dict[str, str] = {}
    correlation_id: str | None = None
    traceparent: str | None = None


NO_OPTIONS = CallOptions()
_encode_options = msgspec.json.Encoder().encode
_decode_options = msgspec.json.Decoder(CallOptions).decode


def parse_options(data: bytes) -> CallOptions:
    """Options that no Call wrote are none."""
    try:
        return _decode_options(data) if data else NO_OPTIONS
    except (ValueError, msgspec.MsgspecError):
        return NO_OPTIONS


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One task to enqueue. A repeat with the same `id` changes nothing, for as long as the queue knows the id.

    `payload` is JSON. The task starts no earlier than `delay_seconds` from now, and no earlier than `at` (epoch
    seconds); after `expires_seconds` from now, or at `expires_at`, it does not start any more, and counts as aborted.
    `unique`: while a task of this name with this key waits or runs, no second one is accepted. `owner`: the id of the
    user who may read the task. `timeout_seconds` and `max_attempts` replace those of the task. `restart`: an id whose
    task has ended starts again. `parent`: starts when that task is done; with `takes_result` its result is the payload.
    ValueError: a value is not allowed.
    """

    name: str
    payload: bytes = b"null"
    id: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    delay_seconds: float = 0
    at: float = 0
    priority: Priority = "normal"
    unique: str | None = None
    owner: int | None = None
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    expires_seconds: float | None = None
    expires_at: float | None = None
    metadata: Mapping[str, str] = {}
    correlation_id: str | None = None
    traceparent: str | None = None
    restart: bool = False
    parent: str | None = None
    takes_result: bool = False

    def __post_init__(self) -> None:
        validate_task_id(self.id)
        validate_task_name(self.name)
        if self.priority not in PRIORITIES:
            raise ValueError(f"a priority is one of {', '.join(PRIORITIES)}")
        if len(self.payload) > MAX_TASK_BYTES:
            raise ValueError(f"a payload of {len(self.payload)} bytes; {MAX_TASK_BYTES} are allowed")
        if self.delay_seconds:
            validate_seconds(self.delay_seconds, "a delay")
        if self.at:
            validate_seconds(self.at, "a moment")
        if self.unique is not None:
            self.unique.encode()
        if self.parent is not None:
            validate_task_id(self.parent)
            if self.restart:
                # Its parent could be one of the tasks that it holds itself.
                raise ValueError("a task with a parent is not restarted")
        self._validate_rest()

    def _validate_rest(self) -> None:
        if self.timeout_seconds is not None:
            validate_seconds(self.timeout_seconds, "a timeout", least=0.001)
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(f"max_attempts is at least 1: {self.max_attempts}")
        for moment in (self.expires_seconds, self.expires_at):
            if moment is not None:
                validate_seconds(moment, "an expiry")
        if self.metadata or self.correlation_id:
            size = len(_encode_options([self.metadata, self.correlation_id]))
            if size > MAX_METADATA_BYTES:
                raise ValueError(f"metadata of {size} bytes; {MAX_METADATA_BYTES} are allowed")

    def encoded_options(self) -> bytes:
        options = CallOptions(
            self.owner,
            self.timeout_seconds,
            self.max_attempts,
            dict(self.metadata),
            self.correlation_id,
            self.traceparent,
        )
        return b"" if options == NO_OPTIONS else _encode_options(options)

    def encoded_expiry(self) -> str:
        """Milliseconds from now (+ms) or epoch ms, as tasks/enqueue takes it; empty: none."""
        if self.expires_at is not None:
            return str(round(self.expires_at * 1000))
        return "" if self.expires_seconds is None else f"+{round(self.expires_seconds * 1000)}"


class Claim(msgspec.Struct, frozen=True):
    """A task that a worker holds. `token` is the fencing token of its lease: it grows with each claim of the queue.

    `waited_seconds`: since it was due.
    """

    id: str
    token: int
    name: str
    payload: bytes
    attempt: int
    options: CallOptions = NO_OPTIONS
    waited_seconds: float = 0


class Report(msgspec.Struct, frozen=True):
    """The outcome of a claim, or its progress. `ms`: how long to keep the result (done), or to wait (retry).

    A result with -1 ms is kept for ever. `text` is the result as JSON (done), the error (retry, dead), or the
    percentage (progress); `trace` the stack trace of the error.
    """

    id: str
    token: int
    kind: ReportKind
    ms: int = 0
    text: bytes | str | int = b""
    trace: str = ""

    @classmethod
    def dead(cls, claim: Claim, reason: str, trace: str = "") -> "Report":
        """The task is kept as a dead letter. What UTF-8 cannot encode is escaped."""
        return cls(claim.id, claim.token, "dead", 0, *_bounded(reason, trace))

    @classmethod
    def retry(cls, claim: Claim, reason: str, trace: str, *, delay_seconds: float) -> "Report":
        return cls(claim.id, claim.token, "retry", round(delay_seconds * 1000), *_bounded(reason, trace))


def _bounded(reason: str, trace: str) -> tuple[str, str]:
    half = TRACE_CHARACTERS // 2
    lines = "\n".join(line[:LINE_CHARACTERS] for line in trace.split("\n"))
    ends = lines if len(lines) <= TRACE_CHARACTERS else f"{lines[:half]}\n...\n{lines[-half:]}"
    return printable(reason, ERROR_CHARACTERS), printable(ends, len(ends))


class Depth(TypedDict):
    """How many tasks are in each place; `oldest_seconds`: the age of the oldest one that is ready.

    `limited`: how many are due, but wait for a limit of their task.
    """

    high: int
    normal: int
    low: int
    scheduled: int
    running: int
    dead: int
    limited: int
    oldest_seconds: float


def milliseconds(seconds: float | None) -> int:
    """-1 for None, which is for ever."""
    return -1 if seconds is None or seconds == math.inf else round(seconds * 1000)
