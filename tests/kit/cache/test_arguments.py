"""Arguments and keys: equal arguments share a key, different ones never do, in whatever process."""

import copy
import datetime
import decimal
import enum
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kit.cache.arguments import encode_arguments


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int


class Place(msgspec.Struct, frozen=True):
    x: int


class Other(msgspec.Struct, frozen=True):
    x: int


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.sampled_from([Colour.RED, Colour.BLUE, Level.LOW, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(Point, st.integers()),
    st.builds(Place, st.integers()),
    st.builds(Other, st.integers()),
)
hashables = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=4
)
values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.sets(hashables, max_size=2),
        st.dictionaries(hashables, inner, max_size=2),
    ),
    max_leaves=6,
)


steady = settings(deadline=None, derandomize=True, database=None)


def typed(value: Any) -> Any:
    """A value that equals another's only where both are the same in each part and type."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.value
    if isinstance(value, float):
        return kind, value.hex()
    if isinstance(value, decimal.Decimal):
        return kind, str(value)
    if isinstance(value, datetime.datetime | datetime.time):
        return kind, value.isoformat(), value.fold
    if isinstance(value, list | tuple):
        return kind, tuple(map(typed, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(typed, value))
    if isinstance(value, dict):
        return kind, frozenset((typed(key), typed(item)) for key, item in value.items())
    return kind, value


@steady
@given(values, values)
def test_two_values_share_an_encoding_exactly_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (encode_arguments(one) == encode_arguments(other)) == (typed(one) == typed(other))


@steady
@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
def test_neighbours_never_run_into_each_other(one: list[Any], other: list[Any]) -> None:
    same = typed(one) == typed(other)
    assert (b"".join(map(encode_arguments, one)) == b"".join(map(encode_arguments, other))) == same


@steady
@given(values)
def test_equal_values_share_an_encoding(value: Any) -> None:
    assert encode_arguments(value) == encode_arguments(copy.deepcopy(value))


@steady
@given(st.dictionaries(st.text() | st.integers(), st.integers(), max_size=5), st.randoms())
def test_dicts_and_sets_have_no_order(items: dict[Any, Any], chance: Any) -> None:
    shuffled = list(items.items())
    chance.shuffle(shuffled)
    assert encode_arguments(items) == encode_arguments(dict(shuffled))
    assert encode_arguments(set(items)) == encode_arguments({key for key, _ in shuffled})


def test_times_differ_by_their_zone() -> None:
    an_hour = datetime.timezone(datetime.timedelta(hours=1))
    zones = [None, datetime.UTC, an_hour, ZoneInfo("Europe/Berlin"), ZoneInfo("CET")]
    times = [datetime.datetime(2026, 1, 1, 12, tzinfo=zone) for zone in zones]
    encoded = {encode_arguments(time) for time in times} | {encode_arguments(time.timetz()) for time in times}
    assert len(encoded) == 2 * len(zones)

    class Own(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            return datetime.timedelta(0)

        def dst(self, _: datetime.datetime | None) -> None:
            return None

        def tzname(self, _: datetime.datetime | None) -> str:
            return "own"

    with pytest.raises(TypeError, match="zone"):
        encode_arguments(datetime.datetime(2026, 1, 1, tzinfo=Own()))


def test_what_looks_alike_differs() -> None:
    alike: list[object] = [
        *(1, "1", True, 1.0, decimal.Decimal(1), Level.LOW, b"1", [1], (1,), {1}, frozenset({1}), {1: 1}),
        *(0, False, 0.0, -0.0, None, "", b"", [], (), {}, set(), frozenset(), [[]], [None], "None", "null"),
        *("a,b", "a", ("a", "b"), ("a,b",), ["a", "b"], "i1:1", ("i1:1",), Point(1), Place(1), Other(1)),
        *(datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), uuid.UUID(int=0), bytes(16)),
        *(datetime.datetime(2024, 1, 1, fold=1), float("nan"), float("inf"), Colour.RED, 10**5000),
    ]
    assert len(set(map(encode_arguments, alike))) == len(alike)


class Name(str):
    """Might hold more than its letters."""


@pytest.mark.parametrize("value", [object(), len, Name("a"), [object()], {"a": {1: int}}, range(3), iter([])])
def test_what_cannot_be_encoded_raises(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be part of a cache key"):
        encode_arguments(value)


def test_the_encoding_is_the_same_in_every_process() -> None:
    program = (
        "from app.kit.cache.arguments import encode_arguments as encode\n"
        "print(encode({'b': {1, 'x', None, (2, 'y')}, 'a': frozenset('hello world'), 3: {'k': {b'q', 1.5}}}))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert next(iter(outputs)).strip()
