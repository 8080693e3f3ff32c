"""What a route's decorators declare: records on a view, a class of views, a blueprint or the app.

A record is one object, which functools.wraps carries outwards. Where the guard does not find it on its way to a view
that holds it, a decorator has hidden it.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType, NoneType
from typing import Any, TypeVar

from flask.sansio.scaffold import Scaffold
from quart.views import View as ClassView
from werkzeug.local import LocalProxy

View = Callable[..., Any]
ViewT = TypeVar("ViewT", bound=View)
Bearer = TypeVar("Bearer")
Policy = TypeVar("Policy")

_ATTRIBUTE = "__declarations__"
# What most values are; they hold nothing.
_PLAIN = frozenset({str, bytes, int, float, bool, NoneType, ModuleType})
_CONTAINERS = (list, tuple, set, frozenset, deque)
# Counts the declarations of this process: policies that were compiled before the last one are compiled again.
generation = 0


class DeclarationError(TypeError):
    """A declaration that would not be enforced, or that nothing could satisfy."""


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """One use of a decorator. `policy` is what it says, `bearer` what it was put on."""

    policy: object
    decorator: str
    bearer: str

    def __str__(self) -> str:
        return f"{self.decorator} on {self.bearer}"


def attach(bearer: Bearer, policy: object, *, decorator: str) -> Bearer:
    """Put a declaration on a view, a class of views, a blueprint or the app, before the earlier ones."""
    global generation
    if isinstance(bearer, staticmethod | classmethod | property) or not (
        callable(bearer) or isinstance(bearer, Scaffold)
    ):
        raise DeclarationError(f"{decorator} is for a view, a class of views, a blueprint or the app, not {bearer!r}")
    declaration = Declaration(policy, decorator, _name(bearer))
    try:
        setattr(bearer, _ATTRIBUTE, (declaration, *declarations_on(bearer)))
    except AttributeError as error:
        raise DeclarationError(f"{bearer!r} cannot hold {decorator}: put it on the function itself") from error
    generation += 1
    return bearer


def declarations_on(bearer: object) -> tuple[Declaration, ...]:
    """The declarations of this bearer, the outermost first. A class has those of its bases, too."""
    found: tuple[Declaration, ...] = getattr(bearer, _ATTRIBUTE, ())
    return found


def declared(bearer: object, kind: type[Policy]) -> tuple[Policy, ...]:
    """The policies of one type that are declared on this bearer, the outermost first."""
    return tuple(d.policy for d in declarations_on(bearer) if isinstance(d.policy, kind))


def declarations_within(
    roots: Iterable[object], *, modules: set[str] | None = None, inside: Collection[str] = ()
) -> set[Declaration]:
    """The declarations on these objects, and on all that they hold the way decorators hold what they replace.

    `modules` receives the names of the modules whose functions were found. Classes of the modules `inside` are searched
    whatever they are, others if they are classes of views. Blueprints and apps are left out.
    """
    found: set[Declaration] = set()
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if type(each) in _PLAIN:
            continue
        # Proxies are left out first: outside a request they raise at any access.
        if type(each) is LocalProxy or isinstance(each, Scaffold) or id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, FunctionType) and modules is not None:
            modules.add(each.__globals__["__name__"])
        if callable(each):
            found.update(declarations_on(each))
        waiting.extend(_members(each) if inspect.isclass(each) and _is_searched(each, inside) else _held(each))
    return found


def _held(value: Any) -> Iterator[object]:
    if isinstance(value, FunctionType):
        yield from vars(value).values()
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield from _cells(value)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, _CONTAINERS):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif callable(value) and not inspect.isclass(value):
        yield from getattr(value, "__dict__", {}).values()
        yield from _slots(value)


def _slots(value: object) -> Iterator[object]:
    cls: Any = type(value)
    for member in _slots_of(cls):
        # A slot that has no value yet is left out.
        with suppress(AttributeError):
            yield member.__get__(value)


@lru_cache(maxsize=1024)
def _slots_of(cls: type) -> tuple[MemberDescriptorType, ...]:
    """A class gets its slots when it is made, and none later."""
    members = (member for each in cls.__mro__ for member in vars(each).values())
    return tuple(member for member in members if isinstance(member, MemberDescriptorType))


def _is_searched(cls: type, inside: Collection[str]) -> bool:
    return issubclass(cls, ClassView) or cls.__module__ in inside


def _members(cls: type) -> Iterator[object]:
    for each in cls.__mro__:
        if each is not object:
            yield from vars(each).values()


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        # A variable that has no value yet is left out.
        with suppress(ValueError):
            yield cell.cell_contents


def _name(bearer: Any) -> str:
    if isinstance(bearer, Scaffold):
        return f"{type(bearer).__name__} {bearer.name!r}"
    return f"{getattr(bearer, '__module__', '?')}.{getattr(bearer, '__qualname__', repr(bearer))}"
