"""The interface by which the kit carries the trace of a request through tasks and events (W3C Trace Context)."""

from contextlib import AbstractContextManager
from typing import Any, Protocol


class Tracing(Protocol):
    """A tracer. Where there is none, blocks get None and do nothing for it."""

    def traceparent(self) -> str | None:
        """The header `traceparent` of what runs now; None outside a trace."""

    def span(self, name: str, *, parent: str | None, **attributes: str | int) -> AbstractContextManager[Any]:
        """A span around a block of work, whose errors it records. `parent`: a traceparent; None begins a trace."""


def trace_id_of(traceparent: str | None) -> str | None:
    """The part of a traceparent that all its spans have in common."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else None
