"""What a call's arguments give the cache: canonical bytes for the key, the same in every process, and the tags."""

import datetime
import decimal
import inspect
import uuid
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec


def encode_arguments(value: object) -> bytes:
    """Encode so that different values never share an encoding: each part has its type, its length and its content.

    `1`, `"1"`, `True` and `1.0` differ. Dicts and sets have no order. Dataclasses, msgspec Structs and enums count
    with the name of their class. TypeError for anything else: with a key that left a part out, callers would get
    each other's values.
    """
    kind, content = _parts(value)
    return b"%b%d:%b" % (kind, len(content), content)


def _parts(value: Any) -> tuple[bytes, bytes]:
    encoder = ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value)
    if isinstance(value, Enum):
        # A combination of flags may have no name.
        return b"E", _sequence([_class_name(value), value.name or value.value])
    if isinstance(value, msgspec.Struct):
        return b"O", _sequence([_class_name(value), {n: getattr(value, n) for n in value.__struct_fields__}])
    if is_dataclass(value) and not isinstance(value, type):
        return b"O", _sequence([_class_name(value), {f.name: getattr(value, f.name) for f in fields(value)}])
    # Subclasses of the types in ENCODERS end here too: they may hold more than their base shows.
    raise TypeError(f"{type(value).__qualname__} cannot be part of a cache key")


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _sequence(items: Iterable[object]) -> bytes:
    return b"".join(map(encode_arguments, items))


def _unordered(items: Iterable[object]) -> bytes:
    return b"".join(sorted(map(encode_arguments, items)))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _time(value: datetime.time | datetime.datetime) -> bytes:
    # isoformat() leaves out the zone's name, and `fold`, which differs between the two hours that share a name when
    # summer time ends.
    return f"{value.isoformat()}/{value.fold}/{_zone(value.tzinfo)}".encode()


def _zone(zone: datetime.tzinfo | None) -> str:
    if zone is None:
        return ""
    if type(zone) is datetime.timezone:
        return str(zone.utcoffset(None))
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    raise TypeError(f"the zone {zone!r} cannot be part of a cache key")


def _mapping(value: Mapping[object, object]) -> bytes:
    return _unordered(value.items())


ENCODERS: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
    type(None): lambda _: (b"n", b""),
    bool: lambda value: (b"b", b"1" if value else b"0"),
    # Hexadecimal has no limit of digits, as decimal notation has.
    int: lambda value: (b"i", b"%x" % value),
    float: lambda value: (b"f", value.hex().encode()),
    str: lambda value: (b"s", _text(value)),
    bytes: lambda value: (b"y", value),
    decimal.Decimal: lambda value: (b"D", str(value).encode()),
    uuid.UUID: lambda value: (b"U", value.bytes),
    datetime.datetime: lambda value: (b"T", _time(value)),
    datetime.date: lambda value: (b"A", value.isoformat().encode()),
    datetime.time: lambda value: (b"C", _time(value)),
    datetime.timedelta: lambda value: (b"P", _sequence([value.days, value.seconds, value.microseconds])),
    tuple: lambda value: (b"t", _sequence(value)),
    list: lambda value: (b"l", _sequence(value)),
    set: lambda value: (b"e", _unordered(value)),
    frozenset: lambda value: (b"z", _unordered(value)),
    dict: lambda value: (b"d", _mapping(value)),
}


TagNames = str | Iterable[str]
Tags = TagNames | Callable[..., TagNames]

RESULT = "result"
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def tag_names(tags: TagNames) -> tuple[str, ...]:
    """Each tag once. A single string is one tag."""
    return (tags,) if isinstance(tags, str) else tuple(dict.fromkeys(tags))


class ByName:
    """A function that is called with those of a call's arguments that its parameters name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        parameters = inspect.signature(function).parameters.values()
        if any(each.kind not in _BY_NAME for each in parameters):
            raise TypeError(f"{function!r} is called with arguments by name: each of its parameters needs one")
        self.wants = frozenset(each.name for each in parameters)
        self._required = {each.name for each in parameters if each.default is inspect.Parameter.empty}

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        return self._function(**{name: arguments[name] for name in self.wants & arguments.keys()})

    def check(self, names: Collection[str]) -> None:
        """TypeError: a parameter has none of these names, so that no call could give it."""
        unknown = self._required - set(names)
        if unknown:
            raise TypeError(f"{self._function!r} has a parameter that no call gives it: {', '.join(sorted(unknown))}")


class TagRule:
    """A decorator's tags: fixed ones, or a function of parameters that it names, or of `result`.

    With `result` the tags are known only after the compute, so a hit takes two round trips in place of one.
    """

    def __init__(self, tags: Tags) -> None:
        self._fixed = () if callable(tags) else tag_names(tags)
        if not all(isinstance(tag, str) for tag in self._fixed):
            raise TypeError(f"tags are names, or a function that returns them, not {tags!r}")
        self._function = ByName(tags) if callable(tags) else None

    def check(self, names: Collection[str]) -> None:
        """TypeError: the function has a parameter that is neither one of these names nor `result`."""
        if self._function is not None:
            self._function.check({*names, RESULT})

    def tags(self, arguments: Mapping[str, Any]) -> TagNames | Callable[[Any], TagNames]:
        """The tags of a call, or the function that gives them for its result."""
        function = self._function
        if function is None:
            return self._fixed
        if RESULT not in function.wants:
            found: TagNames = function(arguments)
            return found
        return lambda result: function({**arguments, RESULT: result})
