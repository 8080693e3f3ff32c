"""@on_event makes an EventHandler of a function. Nothing is registered."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.kit.events.event import Event, validate_topic, validate_type

# What handles an event: it gets the resources of the process, and the event.
HandlerFunction = Callable[[Any, Event], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class EventHandler:
    """A function that a Subscriber calls with each event of one type on some topics.

    `once`: over all nodes one of them handles the event; otherwise each does. A failed attempt, also one that takes
    longer than `timeout_seconds`, is repeated, up to `attempts` in all, with a delay in between. `name` is for the log.
    """

    name: str
    type: str
    handle: HandlerFunction
    topics: tuple[str, ...]
    once: bool
    attempts: int
    timeout_seconds: float

    def matches(self, channel: str) -> bool:
        """Whether one of the topics is the channel, or a pattern that matches it."""
        return self._pattern.fullmatch(channel) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(topic).replace(r"\*", ".*") for topic in self.topics))


def on_event(
    type: str,
    *,
    topics: Sequence[str] = ("*",),
    once: bool = True,
    attempts: int = 3,
    timeout_seconds: float = 30.0,
) -> Callable[[HandlerFunction], EventHandler]:
    """Decorates `async def handle(resources, event)`. What takes long belongs into a task, which the handler submits.

    ValueError for a type that cannot be published, and for bad topics.
    """
    validated = tuple(validate_topic(topic) for topic in topics)
    validate_type(type)
    if not validated or attempts < 1 or timeout_seconds <= 0:
        raise ValueError("a handler has topics, at least one attempt, and time for it")

    def decorate(handle: HandlerFunction) -> EventHandler:
        return EventHandler(
            name=getattr(handle, "__name__", type),
            type=type,
            handle=handle,
            topics=validated,
            once=once,
            attempts=attempts,
            timeout_seconds=timeout_seconds,
        )

    return decorate
