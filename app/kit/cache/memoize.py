"""@memoize: an async function whose results are stored in the cache of its first argument."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from app.kit.cache.argument_types import check_arguments
from app.kit.cache.arguments import ByName, TagRule, Tags, encode_arguments
from app.kit.cache.cache import Cache
from app.kit.durations import check_seconds
from app.kit.keys import digest

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class HasCache(Protocol):
    """The first argument of a memoized function, such as app.resources.Resources. It is not part of the key."""

    @property
    def cache(self) -> Cache: ...


P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=HasCache)
Function = Callable[Concatenate[R, P], Awaitable[T]]


class Memoized(Generic[R, P, T]):
    """A function with its cache. `uncached` is the function itself, which neither reads the cache nor writes to it."""

    def __init__(
        self,
        function: Function[R, P, T],
        *,
        ttl_seconds: float,
        grace_seconds: float,
        tags: Tags,
        key: Callable[..., object] | None,
        type: Any,
        version: int,
    ) -> None:
        self._signature = _checked_signature(function)
        update_wrapper(self, function)
        self.uncached = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._names = _positional(self._signature)
        self._ttl_seconds = check_seconds("ttl_seconds", ttl_seconds)
        self._grace_seconds = check_seconds("grace_seconds", grace_seconds, least=0)
        self._tags = TagRule(tags)
        self._key = ByName(key) if key else None
        arguments = list(self._signature.parameters)[1:]
        self._tags.check(arguments)
        if self._key:
            self._key.check(arguments)
        else:
            check_arguments(function, arguments)
        self._type = type
        # With the names of the parameters: after a change of their order old entries must not be found.
        self._prefix = encode_arguments((self.name, version, tuple(self._signature.parameters)))

    async def __call__(self, resources: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        arguments = self._bind(resources, *args, **kwargs)
        return await resources.cache.get_or_compute(
            self._key_of(arguments),
            lambda: self.uncached(resources, *args, **kwargs),
            ttl_seconds=self._ttl_seconds,
            tags=self._tags.tags(arguments),
            grace_seconds=self._grace_seconds,
            type=self._type,
            name=self.name,
        )

    async def delete(self, resources: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Delete the result for these arguments. RedisError: see Cache.delete."""
        await resources.cache.delete(self._key_of(self._bind(resources, *args, **kwargs)))

    def _bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments by name, defaults included, without the resources."""
        if not kwargs and len(args) == len(self._names):
            # The same as the lines below, in a tenth of their time.
            return dict(zip(self._names[1:], args[1:], strict=True))
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        _, *rest = bound.arguments.items()
        return dict(rest)

    def _key_of(self, arguments: dict[str, Any]) -> str:
        distinct = tuple(arguments.values()) if self._key is None else self._key(arguments)
        return digest(self._prefix + encode_arguments(distinct))


def _checked_signature(function: Callable[..., Any]) -> inspect.Signature:
    # A partial object of an async function is none, and has no name that a key could have.
    if not inspect.iscoroutinefunction(function) or isinstance(function, partial):
        raise TypeError(f"{function!r} is not an async function")
    owner = function.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>"):
        raise TypeError(f"{function!r} is a method: its instance would be taken for the cache, and not be in the key")
    signature = inspect.signature(function)
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind not in _BY_POSITION:
        raise TypeError(f"{function!r} has no first parameter for the cache")
    return signature


def _positional(signature: inspect.Signature) -> tuple[str, ...]:
    """The names of all parameters if all may be given by position, else none."""
    plain = all(parameter.kind in _BY_POSITION for parameter in signature.parameters.values())
    return tuple(signature.parameters) if plain else ()


def memoize(
    *,
    ttl_seconds: float,
    tags: Tags = (),
    grace_seconds: float = 0.0,
    key: Callable[..., object] | None = None,
    type: Any = Any,
    version: int = 1,
) -> Callable[[Function[R, P, T]], Memoized[R, P, T]]:
    """Cache an async function's results by its arguments. Its first parameter holds the cache.

    Results are decoded as `type`, also for the caller that computes; one that JSON cannot express raises TypeError.
    `tags` and `key` may be functions of the parameters that they name, `tags` also of `result`. The value of `key`
    replaces all arguments in the key, if some do not matter or cannot be encoded. A new `version` starts with no
    stored results.
    """
    return lambda function: Memoized(
        function,
        ttl_seconds=ttl_seconds,
        grace_seconds=grace_seconds,
        tags=tags,
        key=key,
        type=type,
        version=version,
    )


async def delete_memoized(function: Memoized[R, P, T], resources: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Delete the result of `function` for these arguments. To delete all its results, give it a tag."""
    await function.delete(resources, *args, **kwargs)
