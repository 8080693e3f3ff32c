"""Which annotations of a memoized function name values that can be part of a key."""

import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from app.kit.cache.arguments import ENCODERS

# Read once: their values have no content that a key could hold.
_CALLABLE: Any = Callable
_READ_ONCE = (Iterator, AsyncIterator, Awaitable)


def check_arguments(function: Callable[..., Any], names: Collection[str]) -> None:
    """TypeError: one of these parameters is annotated with a type that encode_arguments() refuses.

    Annotations that do not say what a value will be are accepted: Any, object, abstract types, and names that only a
    type checker knows.
    """
    for name, hint in _hints(function).items():
        if name in names and (refused := _refused(hint, set())) is not None:
            raise TypeError(
                f"{function.__qualname__}: no key can hold {name}, of type {refused!r}: leave it out of the key by key="
            )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, AttributeError, TypeError):
        return {}


def _refused(hint: Any, seen: set[int]) -> Any:
    """The part of an annotation that cannot be encoded, or None."""
    if id(hint) in seen:
        return None
    seen.add(id(hint))
    if isinstance(hint, NewType):
        return _refused(hint.__supertype__, seen)
    origin = get_origin(hint)
    if origin is Literal:
        return None
    if origin is Annotated:
        return _refused(get_args(hint)[0], seen)
    if origin in (Union, types.UnionType):
        return _first_refused(get_args(hint), seen)
    if origin is not None:
        return hint if _refused(origin, seen) is not None else _first_refused(get_args(hint), seen)
    return _refused_class(hint, seen) if inspect.isclass(hint) else None


def _refused_class(cls: type, seen: set[int]) -> Any:
    # Not issubclass(), of which classes with __call__ are subclasses.
    if cls is _CALLABLE or issubclass(cls, _READ_ONCE):
        return cls
    if cls in {*ENCODERS, object, Any} or issubclass(cls, Enum) or is_typeddict(cls) or _is_abstract(cls):
        return None
    if issubclass(cls, msgspec.Struct):
        return _first_refused([field.type for field in msgspec.structs.fields(cls)], seen)
    if is_dataclass(cls):
        hints = _hints(cls)
        return _first_refused([hints.get(field.name, Any) for field in fields(cls)], seen)
    return cls


def _first_refused(hints: Collection[Any], seen: set[int]) -> Any:
    return next((found for found in (_refused(hint, seen) for hint in hints) if found is not None), None)


def _is_abstract(cls: type) -> bool:
    return inspect.isabstract(cls) or bool(getattr(cls, "_is_protocol", False))
