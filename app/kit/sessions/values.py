"""A session's values as JSON, and back with the types that they had."""

import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

MAX_DEPTH = 64

# For a type that JSON lacks an object with these two keys stands. A dict that has the first key itself is tagged too.
_TAG, _OF = "$", "of"
_TAG_WIRE = b'"$"'


class Unstorable(ValueError):
    """A value that a session cannot hold. The message names fields and types, never values."""


class SessionTooLarge(Unstorable):
    """More than a session holds."""


def encode_value(value: Any) -> bytes:
    """The value as JSON.

    It may be made of None, bool, int, finite float, str, bytes, list, tuple, set, frozenset, dict with text as keys,
    datetime, date, time, timedelta, Decimal and UUID; these come back as they are. Subclasses of str, and what has
    `__html__()` (Markup, lazy translations), are stored as plain text. Unstorable: it holds anything else.
    """
    try:
        return msgspec.json.encode(_to_json(value, 0))
    except Unstorable:
        raise
    except (ValueError, OverflowError):
        raise Unstorable("text that is not valid Unicode, or a number of thousands of digits") from None


def decode_value(wire: bytes) -> Any:
    """What encode_value() was given. ValueError for bytes that it did not make."""
    value = msgspec.json.decode(wire)
    if _TAG_WIRE not in wire:
        return value
    try:
        return _from_json(value)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError("a tagged value that cannot be read") from error


def _to_json(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, bool):
        return value
    if depth > MAX_DEPTH:
        raise Unstorable(f"more than {MAX_DEPTH} levels of nesting")
    if kind is list:
        return [_to_json(item, depth + 1) for item in value]
    if kind is dict:
        found = {_key(key): _to_json(item, depth + 1) for key, item in value.items()}
        return {_TAG: "dict", _OF: found} if _TAG in found else found
    if kind is float and math.isfinite(value):
        return value
    if kind in (tuple, set, frozenset):
        items = [_to_json(item, depth + 1) for item in value]
        # A set in one order always, so that an unchanged one is not taken for changed.
        return {_TAG: kind.__name__, _OF: items if kind is tuple else sorted(items, key=msgspec.json.encode)}
    if kind in _TO_TEXT:
        return {_TAG: kind.__name__, _OF: _TO_TEXT[kind](value)}
    if isinstance(value, str) or callable(getattr(value, "__html__", None)):
        return _text(value)
    raise Unstorable(f"a value of type {kind.__name__}" if kind is not float else "a float that is not finite")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise Unstorable(f"a dict with a key of type {type(key).__name__}: use text")
    return _text(key)


def _text(value: Any) -> str:
    return str.__str__(str(value))


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: _from_json(item) for key, item in value.items()}
    tag, of = value[_TAG], value[_OF]
    if tag == "dict":
        return {key: _from_json(item) for key, item in of.items()}
    return _FROM_JSON[tag](_from_json(of))


_TO_TEXT: dict[type, Callable[[Any], str | list[int]]] = {
    bytes: lambda value: b64encode(value).decode(),
    datetime: lambda value: str(value.isoformat()),
    date: lambda value: str(value.isoformat()),
    time: lambda value: str(value.isoformat()),
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    UUID: str,
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda text: b64decode(text, validate=True),
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
    "UUID": UUID,
}
