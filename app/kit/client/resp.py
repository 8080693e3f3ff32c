"""Commands as bytes (RESP), packed by hiredis with the same rules as the redis-py client."""

from collections.abc import Iterable

import hiredis
from redis.exceptions import DataError

Encodable = str | bytes | bytearray | memoryview | int | float


def pack(args: Iterable[Encodable]) -> bytes:
    """One command. The name may have several words ("SCRIPT LOAD"). DataError for a value of any other type."""
    name, *values = args
    words = name.split() if isinstance(name, str) else [name]
    if not words or not words[0]:
        # Redis would not answer it, and the reply to the next command would be taken for its reply.
        raise DataError("a command has a name")
    packed: bytes = hiredis.pack_command((*words, *map(_encodable, values)))
    return packed


def _encodable(value: Encodable) -> str | bytes | int:
    """bool and None are refused, as redis-py does: Redis would store their names."""
    kind = type(value)
    if kind is str or kind is bytes or kind is int:
        return value  # type: ignore[return-value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, bool) or not isinstance(value, str | bytes | int):
        raise DataError(f"Redis takes bytes, str, int and float, not {kind.__name__}")
    return value
