"""What the kit's decorators and declarations refuse, where they are written down."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional

import msgspec
import pytest
from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.cache.memoize import memoize
from app.kit.keys import Keys
from app.kit.limits.limit import Charge, Limit
from app.kit.limits.limiter import RateLimiter
from app.kit.tasks.context import TaskContext
from app.kit.tasks.schedule import Cron, Every
from app.kit.tasks.task import Task, task

# What is no length of time, whatever it is for.
NO_TIMES = [math.inf, -math.inf, math.nan, -1, 1e300, "60", None, True, timedelta(seconds=60)]
NO_COUNTS: list[Any] = [0, -1, 0.5, 1.0, math.nan, math.inf, "1", None, True]


@pytest.mark.parametrize("seconds", [0, 1e-9, *NO_TIMES])
async def test_a_time_to_live_that_is_none(redis: Redis, keys: Keys, seconds: Any) -> None:
    cache = Cache(redis, keys)

    async def compute() -> int:
        return 1

    async def function(cache: Cache) -> int:
        return 1

    with pytest.raises((TypeError, ValueError), match="seconds"):
        await cache.set("key", 1, ttl_seconds=seconds)
    with pytest.raises((TypeError, ValueError), match="seconds"):
        await cache.get_or_compute("key", compute, ttl_seconds=seconds)
    with pytest.raises((TypeError, ValueError), match="seconds"):
        memoize(ttl_seconds=seconds)(function)  # type: ignore[type-var]
    with pytest.raises((TypeError, ValueError), match="seconds"):
        Cache(redis, keys, lease_seconds=seconds)


@pytest.mark.parametrize("seconds", NO_TIMES)
async def test_a_time_of_grace_that_is_none(redis: Redis, keys: Keys, seconds: Any) -> None:
    async def function(cache: Cache) -> int:
        return 1

    with pytest.raises((TypeError, ValueError), match="seconds"):
        await Cache(redis, keys).get_or_compute("key", lambda: asyncio.sleep(0), ttl_seconds=1, grace_seconds=seconds)
    with pytest.raises((TypeError, ValueError), match="seconds"):
        memoize(ttl_seconds=1, grace_seconds=seconds)(function)  # type: ignore[type-var]


def test_a_memoized_method_is_refused_where_it_is_declared() -> None:
    class Service:
        async def plain(self, user_id: int) -> int:
            return user_id

        @staticmethod
        async def static(user_id: int) -> int:
            return user_id

        @classmethod
        async def of_class(cls, user_id: int) -> int:
            return user_id

    for function in (Service.plain, Service.static, Service.of_class, Service().plain):
        with pytest.raises(TypeError, match="method"):
            memoize(ttl_seconds=1)(function)


def test_what_is_no_async_function_is_not_memoized() -> None:
    function: Any = asyncio.sleep

    async def generator(cache: Cache) -> AsyncIterator[int]:
        yield 1

    class Called:
        async def __call__(self, cache: Cache) -> int:
            return 1

    others: list[Any] = [classmethod(function), staticmethod(function), property(function), partial(function)]
    others += [generator, Called(), Called, lambda cache: 1, memoize(ttl_seconds=1)(function)]
    for other in others:
        with pytest.raises(TypeError, match="async function"):
            memoize(ttl_seconds=1)(other)


def test_tags_and_keys_name_parameters_that_there_are() -> None:
    async def names(cache: Any, user_id: int, *more: int, page: int = 1) -> int:
        return user_id

    known: list[Callable[..., Any]] = [lambda user_id: "", lambda result, page: "", lambda user_id, x=1: "", lambda: ""]
    unknown: list[Callable[..., Any]] = [lambda usr_id: "", lambda cache: "", lambda result, pgae: ""]
    unknown += [lambda *user_id: "", lambda **user_id: ""]
    for tags in known:
        memoize(ttl_seconds=1, tags=tags)(names)
    for tags in unknown:
        with pytest.raises(TypeError, match=r"parameter"):
            memoize(ttl_seconds=1, tags=tags)(names)
        with pytest.raises(TypeError, match=r"parameter"):
            memoize(ttl_seconds=1, key=tags)(names)
    with pytest.raises(TypeError, match="result"):
        # The key is needed before there is a result.
        memoize(ttl_seconds=1, key=lambda result: result)(names)
    with pytest.raises(TypeError, match="tags are names"):
        memoize(ttl_seconds=1, tags=[1])(names)  # type: ignore[list-item]


@dataclass
class Point:
    x: int


@dataclass
class Opened:
    lock: asyncio.Lock


class Row(msgspec.Struct):
    path: Path


class UserId(int):
    pass


class Service:
    pass


Number = NewType("Number", int)
Lock = NewType("Lock", asyncio.Lock)
HELD: list[Any] = [int, str | None, list[dict[str, float]], tuple[int, ...], Point, Number, Literal["a"], Any, object]
HELD += [Annotated[int, "years"], Optional[Point], "NotImportedHere"]  # noqa: UP045  both spellings
NOT_HELD: list[Any] = [Path, asyncio.Lock, list[Path], Path | None, Opened, Row, UserId, Service, bytearray, complex]
NOT_HELD += [Iterator[int], AsyncIterator[int], Callable[[int], int], type[int], Annotated[Path, ""], Lock]
NOT_HELD += [dict[str, list[Service]]]


@pytest.mark.parametrize("hint", HELD + NOT_HELD, ids=repr)
def test_an_argument_that_no_key_can_hold(hint: Any) -> None:
    async def function(cache: Any, given: Any) -> int:
        return 1

    function.__annotations__["given"] = hint
    if hint in HELD:
        memoize(ttl_seconds=1)(function)
        return
    with pytest.raises(TypeError, match="no key can hold given"):
        memoize(ttl_seconds=1)(function)
    memoize(ttl_seconds=1, key=lambda: "all the same")(function)


@pytest.mark.parametrize("number", NO_COUNTS)
def test_a_limit_counts_whole_units(number: Any) -> None:
    for field in ("amount", "window_seconds"):
        with pytest.raises((TypeError, ValueError), match="limit"):
            Limit(**{"name": "limit", "amount": 5, "window_seconds": 60, field: number})
    if number is not None:
        with pytest.raises((TypeError, ValueError), match="limit"):
            Limit(name="limit", amount=5, window_seconds=60, algorithm="gcra", burst=number)


@pytest.mark.parametrize("field", ["algorithm", "counts", "on_error", "shadow", "sensitive"])
@pytest.mark.parametrize("word", ["", "Log", "gcraa", None, 2, ("log",)])
def test_a_misspelt_word_of_a_limit_is_refused(field: str, word: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Limit(name="limit", amount=5, window_seconds=60, **{field: word})


@pytest.mark.parametrize("cost", [0.5, -1, 1.0, math.nan, math.inf, "1", None, True])
async def test_a_charge_costs_whole_units(redis: Redis, keys: Keys, cost: Any) -> None:
    limit = Limit(name="limit", amount=2, window_seconds=60)
    with pytest.raises(ValueError, match="whole number of units"):
        await RateLimiter(redis, keys).check([Charge(limit, "somebody", cost)])


async def job(context: TaskContext, payload: int) -> None:
    """Does nothing."""


@pytest.mark.parametrize("field", ["keep_seconds", "timeout_seconds", "backoff_seconds", "backoff_max_seconds"])
@pytest.mark.parametrize("seconds", [*NO_TIMES])
def test_a_time_of_a_task_that_is_none(field: str, seconds: Any) -> None:
    if field in ("timeout_seconds", "keep_seconds") and seconds is None:
        return  # Without a bound; for ever.
    with pytest.raises((TypeError, ValueError), match=field):
        task(**{field: seconds})(job)


@pytest.mark.parametrize("number", NO_COUNTS)
def test_a_task_is_attempted_a_whole_number_of_times(number: Any) -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        task(max_attempts=number)(job)


def test_a_task_takes_what_it_is_given() -> None:
    def without_context() -> None: ...
    async def with_three(context: TaskContext, payload: int, more: int) -> None: ...

    functions: list[Any] = [without_context, with_three]
    for function in functions:
        with pytest.raises(TypeError, match="at most a payload"):
            task()(function)


KEPT: Task[int] = task()(job)


@pytest.mark.parametrize("seconds", [0, 1, 59])
def test_a_schedule_needs_ids_that_are_known_for_a_while(seconds: float) -> None:
    forgetful = task(keep_seconds=seconds)(job)
    for make in (lambda: Every(forgetful, seconds=60, payload=1), lambda: Cron(forgetful, "@daily", payload=1)):
        with pytest.raises(ValueError, match="has a schedule"):
            make()


@pytest.mark.parametrize("seconds", [0, 1e-9, 0.01, *NO_TIMES])
def test_an_interval_that_never_or_always_passes(seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="interval"):
        Every(KEPT, seconds=seconds, payload=1)


@pytest.mark.parametrize("payload", [None, "text", object(), math.nan, [1], {1: 2}])
def test_an_entry_whose_payload_is_not_its_tasks(payload: Any) -> None:
    for make in (lambda: Every(KEPT, seconds=60, payload=payload), lambda: Cron(KEPT, "@daily", payload=payload)):
        with pytest.raises(ValueError, match="no payload of this task"):
            make()


def test_an_entry_of_a_priority_that_is_none() -> None:
    with pytest.raises(ValueError, match="priority"):
        Every(KEPT, seconds=60, payload=1, priority="urgent")  # type: ignore[arg-type]
