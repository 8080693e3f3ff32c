"""@task makes a Task of a function: its name, how it runs, and its policy. Nothing is registered."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, get_type_hints, overload

import msgspec

from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Call, Priority, epoch_of, seconds_of, validate_task_name
from app.kit.tasks.outcome import Undecodable
from app.kit.tasks.policy import Policy, RetryDelay

Payload = TypeVar("Payload")
Mode = Literal["loop", "thread", "process"]

# The payload of a task without one.
NO_PAYLOAD: Any = None

_encode = msgspec.json.Encoder().encode


class EnqueueOptions(TypedDict, total=False):
    """How one call is enqueued. `delay`, `expires`: a duration (seconds or timedelta) from now; `at`: a moment.

    A moment is epoch seconds or a datetime with a time zone; `expires` may be such a datetime, too. `timeout`: seconds.
    The others are the fields of app.kit.tasks.model.Call with these names.
    """

    id: str
    delay: float | timedelta
    at: float | datetime
    expires: float | timedelta | datetime
    priority: Priority
    unique: str | None
    owner: int | None
    timeout: float | timedelta | None
    max_attempts: int | None
    metadata: Mapping[str, str]
    correlation_id: str | None
    restart: bool


@dataclass(frozen=True, kw_only=True)
class Task(Policy, Generic[Payload]):
    """A function that a worker can run, and its policy."""

    name: str
    function: Callable[..., Any]
    mode: Mode

    def __post_init__(self) -> None:
        super().__post_init__()
        validate_task_name(self.name)
        # The payload, and the context of all but child processes.
        most = 1 if self.mode == "process" else 2
        required = [each for each in inspect.signature(self.function).parameters.values() if each.default is each.empty]
        if not most - 1 <= len(required) <= most:
            raise TypeError(f"{self.name}: a task takes {'' if most == 1 else 'the context and '}at most a payload")

    def call(self, payload: Payload = NO_PAYLOAD, **options: Unpack[EnqueueOptions]) -> Call:
        """A Call for Queue.submit(). Undecodable: the payload is no JSON. ValueError: an option is not allowed."""
        if not options:
            return Call(name=self.name, payload=self.encode(payload))
        return Call(name=self.name, payload=self.encode(payload), **_call_fields(options))

    def encode(self, value: Any) -> bytes:
        try:
            return _encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise Undecodable(f"no JSON: {error}") from error

    def decode(self, payload: bytes) -> Payload:
        try:
            decoded: Payload = self.decoder.decode(payload)
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise Undecodable(f"undecodable payload: {error}") from error
        return decoded

    def run_in_child(self, raw: bytes) -> bytes:
        """In the child process: the result as JSON, which costs the worker's loop nothing."""
        payload = self.decode(raw)
        return self.encode(self.function() if self.payload_parameter is None else self.function(payload))

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


def _call_fields(options: EnqueueOptions) -> dict[str, Any]:
    fields: dict[str, Any] = {**options}
    if "delay" in fields:
        fields["delay_seconds"] = seconds_of(fields.pop("delay"))
    if "at" in fields:
        fields["at"] = epoch_of(fields["at"])
    timeout = fields.pop("timeout", None)
    if timeout is not None:
        fields["timeout_seconds"] = seconds_of(timeout)
    expires = fields.pop("expires", None)
    if isinstance(expires, datetime):
        fields["expires_at"] = epoch_of(expires)
    elif expires is not None:
        fields["expires_seconds"] = seconds_of(expires)
    return fields


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
    """The fields of Policy."""

    max_attempts: int
    backoff_seconds: float
    backoff_max_seconds: float
    retry_delay: RetryDelay | None
    timeout_seconds: float | None
    heartbeat_seconds: float | None
    keep_seconds: float | None
    events: bool
    max_running: int | None
    rate: str | None


@overload
def task(*, process: Literal[False] = False, name: str | None = None, **policy: Unpack[TaskOptions]) -> _InWorker: ...
@overload
def task(*, process: Literal[True], name: str | None = None, **policy: Unpack[TaskOptions]) -> _InChild: ...
def task(*, process: bool = False, name: str | None = None, **policy: Unpack[TaskOptions]) -> Any:
    """Make a Task of a function; its name is the function's own unless given.

    `async def f(context, payload)` runs in the worker's loop, `def f(context, payload)` in a thread, and with
    `process=True`, for CPU-bound work, `def f(payload)` in a child process that an abort or a timeout kills. Where only
    a part is CPU-bound, `await context.run_in_process(g, ...)` runs that part in such a child. The payload may be left
    out. Its annotation is any type that msgspec decodes.
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
