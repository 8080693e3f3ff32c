"""Which tags an entry has: fixed ones, or what a function finds from the arguments, or from the result."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

TagNames = str | Iterable[str]
Tags = TagNames | Callable[..., TagNames]

RESULT = "result"


def tag_names(tags: TagNames) -> tuple[str, ...]:
    """Each tag once. A single string is one tag."""
    return (tags,) if isinstance(tags, str) else tuple(dict.fromkeys(tags))


class ByName:
    """A function that gets, of all arguments of a call, those that its parameters name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.wants = frozenset(inspect.signature(function).parameters)

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        return self._function(**{name: arguments[name] for name in self.wants & arguments.keys()})


class TagRule:
    """Tags as a decorator got them. A function names the parameters that it needs to see, or `result`.

    With `result` the tags are known only after the compute, so a hit takes two round trips in place of one.
    """

    def __init__(self, tags: Tags) -> None:
        self._fixed = () if callable(tags) else tag_names(tags)
        self._function = ByName(tags) if callable(tags) else None

    def tags(self, arguments: Mapping[str, Any]) -> TagNames | Callable[[Any], TagNames]:
        """The tags of a call, or the function that finds them from its result."""
        function = self._function
        if function is None:
            return self._fixed
        if RESULT not in function.wants:
            found: TagNames = function(arguments)
            return found
        return lambda result: function({**arguments, RESULT: result})
