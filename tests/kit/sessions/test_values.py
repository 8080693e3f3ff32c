"""A session's values keep their types, or are refused."""

import base64
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from app.kit.sessions.values import MAX_DEPTH, Unstorable, decode_value, encode_value

KEPT: list[Any] = [
    None,
    True,
    1,
    1.0,
    -0.0,
    "",
    "naïve \u2028 € \0",
    2**64,
    -(2**200),
    [],
    {},
    (),
    (1, "a", (2,)),
    set(),
    {1, 2, 3},
    frozenset({"a"}),
    {(1, 2), (3, 4)},
    b"",
    b"\x00\xff",
    datetime(2026, 3, 1, 12, 30, 0, 999),
    datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    date(2026, 3, 1),
    time(12, 30, 1, 5),
    timedelta(days=-1, seconds=5, microseconds=7),
    timedelta.max,
    Decimal("12.50"),
    Decimal("1E+400"),
    UUID("12345678-1234-5678-1234-567812345678"),
    {"a": [{"b": (Decimal(1), {date(2026, 3, 1)})}]},
    {"$": "tuple", "of": [1]},
    {"$": 1},
    {"a": {"$": {"$": "dict"}, "of": ()}},
]


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types throughout: 1 == 1.0 == True, and (1,) != [1]."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("value", KEPT, ids=repr)
def test_a_value_comes_back_as_it_went(value: Any) -> None:
    assert same(decode_value(encode_value(value)), value)
    assert same(decode_value(encode_value([{"in": value}])), [{"in": value}])


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.sampled_from(["$", "of", "a", "b", "dict"]), inner)
    ),
    max_leaves=15,
)


@given(json_like)
def test_every_value_made_of_them_comes_back(value: Any) -> None:
    assert same(decode_value(encode_value(value)), value)


def test_a_set_is_written_the_same_each_time() -> None:
    one, other = (set(numbers) for numbers in ((0, 8, 16), (16, 8, 0)))
    assert list(one) != list(other)
    assert encode_value(one) == encode_value(other)


class Colour(StrEnum):
    RED = "red"


class Lazy:
    """As a lazy translation is: no str, made for templates."""

    def __str__(self) -> str:
        return "hello"

    def __html__(self) -> str:
        return "hello"


@pytest.mark.parametrize(("value", "text"), [(Markup("<b>x</b>"), "<b>x</b>"), (Colour.RED, "red"), (Lazy(), "hello")])
def test_what_is_like_text_is_stored_as_text(value: Any, text: str) -> None:
    for stored in (value, [value], {"a": value}):
        assert same(decode_value(encode_value(stored)), msgspec.json.decode(msgspec.json.encode(stored, enc_hook=str)))
    assert same(decode_value(encode_value(value)), text)
    assert same(decode_value(encode_value({Markup("key"): 1})), {"key": 1})


class Number(IntEnum):
    ONE = 1


@dataclass
class Point:
    x: int


deep: list[Any] = []
for _ in range(MAX_DEPTH + 5):
    deep = [deep]
circular: list[Any] = []
circular.append(circular)

REFUSED: dict[str, Any] = {
    "object": object(),
    "class": object,
    "function": len,
    "dataclass": Point(1),
    "enumeration": Number.ONE,
    "ordered dict": OrderedDict(a=1),
    "default dict": defaultdict(int),
    "keys": {1: 2},
    "no key": {None: 1},
    "date keys": {date(2026, 1, 1): 1},
    "nan": float("nan"),
    "infinity": float("-inf"),
    "complex": 1j,
    "surrogate": "\ud800",
    "surrogate key": {"\ud800": 1},
    "digits": 10**5000,
    "generator": iter([]),
    "bytearray": bytearray(b"x"),
    "deep": deep,
    "circular": circular,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused(value: Any) -> None:
    for refused in (value, [value], {"a": (value,)}):
        with pytest.raises(Unstorable):
            encode_value(refused)


def test_a_refusal_repeats_no_value() -> None:
    with pytest.raises(Unstorable) as error:
        encode_value({"a": "hush", 1: "hush"})
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"{",
        b"\xff",
        b'{"$":"tuple"}',
        b'{"$":"tuple","of":1}',
        b'{"$":"pickle","of":"x"}',
        b'{"$":[],"of":1}',
        b'{"$":"dict","of":[]}',
        b'{"$":"set","of":[[]]}',
        b'{"$":"Decimal","of":"x"}',
        b'{"$":"UUID","of":7}',
        b'{"$":"UUID","of":"7"}',
        b'{"$":"date","of":7}',
        b'{"$":"datetime","of":"yesterday"}',
        b'{"$":"timedelta","of":[1e300]}',
        b'{"$":"bytes","of":"*"}',
        b'{"$":"bytes","of":"\xc3\xa9"}',
    ],
)
def test_what_was_not_encoded_so_is_a_value_error(wire: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  of many kinds
        decode_value(wire)


def test_bytes_are_base64() -> None:
    assert base64.b64encode(b"\xff\x00") in encode_value(b"\xff\x00")
