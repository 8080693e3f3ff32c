"""@task makes a Task of a function: its name, how it runs, and how its failures are treated. Nothing is registered."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, get_type_hints, overload

import msgspec

from app.kit import aio
from app.kit.durations import check_seconds
from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Call

Payload = TypeVar("Payload")
Mode = Literal["loop", "thread", "process"]


class Undecodable(Exception):
    """A payload that is not of its task's type, or a value that JSON cannot express."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Payload]):
    """A function that a worker can run, and its policy.

    A failed attempt is repeated, up to `max_attempts` in all, after a delay with full jitter: uniform between 0 and
    `backoff_seconds * 2**(attempt - 1)`, at most `backoff_max_seconds`. `timeout_seconds` bounds one attempt; None:
    unbounded. For `keep_seconds` after the task's end its result is readable and its id is known. `events`: its
    progress and its end are published as events.
    """

    name: str
    function: Callable[..., Any]
    mode: Mode
    max_attempts: int = 5
    backoff_seconds: float = 1
    backoff_max_seconds: float = 600
    timeout_seconds: float | None = 300
    keep_seconds: float = 3600
    events: bool = False

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ValueError(f"{self.name}: max_attempts is a whole number, 1 or more, not {self.max_attempts!r}")
        check_seconds(f"{self.name}: backoff_seconds", self.backoff_seconds, least=0)
        check_seconds(f"{self.name}: backoff_max_seconds", self.backoff_max_seconds, least=0)
        check_seconds(f"{self.name}: keep_seconds", self.keep_seconds, least=0)
        if self.timeout_seconds is not None:
            check_seconds(f"{self.name}: timeout_seconds", self.timeout_seconds)
        # The payload, and the context of all but child processes.
        most = 1 if self.mode == "process" else 2
        required = [each for each in inspect.signature(self.function).parameters.values() if each.default is each.empty]
        if not most - 1 <= len(required) <= most:
            raise TypeError(f"{self.name}: a task takes {'' if most == 1 else 'the context and '}at most a payload")

    def call(self, payload: Payload, **options: Any) -> Call:
        """A Call for Queue.submit(). `options` are its fields: id, delay_seconds, at, priority, ..."""
        return Call(name=self.name, payload=self.encode(payload), **options)

    def encode(self, value: Any) -> bytes:
        try:
            return msgspec.json.encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise Undecodable(f"no JSON: {error}") from error

    def decode(self, payload: bytes) -> Payload:
        try:
            decoded: Payload = self.decoder.decode(payload)
        except (ValueError, msgspec.MsgspecError) as error:
            raise Undecodable(f"undecodable payload: {error}") from error
        return decoded

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes to the annotation of the payload's parameter; to any JSON value where there is none."""
        if self.payload_parameter is None:
            return msgspec.json.Decoder()
        return msgspec.json.Decoder(get_type_hints(self.function).get(self.payload_parameter, Any))

    @cached_property
    def payload_parameter(self) -> str | None:
        """The parameter's name; None for a task without a payload."""
        names = list(inspect.signature(self.function).parameters)
        rest = names if self.mode == "process" else names[1:]
        return rest[0] if rest else None

    def retry_delay_seconds(self, attempt: int) -> float:
        """A random delay after the failed `attempt`, which counts from 1."""
        return aio.backoff_seconds(
            attempt, first_seconds=self.backoff_seconds, longest_seconds=self.backoff_max_seconds
        )


class _InWorker(Protocol):
    """Decorates `async def` for the loop or `def` for a thread; both take the context first."""

    @overload
    def __call__(self, function: Callable[[TaskContext], Any], /) -> Task[None]: ...
    @overload
    def __call__(self, function: Callable[[TaskContext, Payload], Any], /) -> Task[Payload]: ...


class _InChild(Protocol):
    """Decorates `def` for a child process. It is given the payload and no context."""

    @overload
    def __call__(self, function: Callable[[], Any], /) -> Task[None]: ...
    @overload
    def __call__(self, function: Callable[[Payload], Any], /) -> Task[Payload]: ...


class TaskOptions(TypedDict, total=False):
    """The fields of Task with these names."""

    max_attempts: int
    backoff_seconds: float
    backoff_max_seconds: float
    timeout_seconds: float | None
    keep_seconds: float
    events: bool


@overload
def task(*, process: Literal[False] = False, name: str | None = None, **policy: Unpack[TaskOptions]) -> _InWorker: ...
@overload
def task(*, process: Literal[True], name: str | None = None, **policy: Unpack[TaskOptions]) -> _InChild: ...
def task(*, process: bool = False, name: str | None = None, **policy: Unpack[TaskOptions]) -> Any:
    """Make a Task of a function; its name is the function's own unless given.

    `async def f(context, payload)` runs in the worker's loop, `def f(context, payload)` in a thread, and with
    `process=True`, for CPU-bound work, `def f(payload)` in a child process that an abort or a timeout kills. The
    payload may be left out. Its annotation is any type that msgspec decodes.
    """

    def make(function: Callable[..., Any]) -> Task[Any]:
        mode = _mode(function, process=process)
        return Task(name=name or function.__name__, function=function, mode=mode, **policy)

    return make


def _mode(function: Callable[..., Any], *, process: bool) -> Mode:
    if not process:
        return "loop" if inspect.iscoroutinefunction(function) else "thread"
    if inspect.iscoroutinefunction(function) or "<locals>" in function.__qualname__:
        raise TypeError("a task for a child process is a plain function at the top of a module")
    return "process"
