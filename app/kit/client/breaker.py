"""A circuit breaker: after a few failures in a row no request waits, until the server has answered again.

Michael Nygard, "Release It!" (2007), chapter 5.
"""

from typing import Literal

FAILURES_TO_OPEN = 3


class Breaker:
    """Counts failures in a row. A new connection is the probe: after it one more failure opens the circuit again."""

    __slots__ = ("_failures", "last_error", "opened")

    def __init__(self) -> None:
        self._failures = 0
        self.opened = 0
        self.last_error: Exception | None = None

    @property
    def state(self) -> Literal["closed", "open"]:
        return "open" if self._failures >= FAILURES_TO_OPEN else "closed"

    @property
    def is_healthy(self) -> bool:
        """Whether the last thing reported was no failure."""
        return self._failures == 0

    def failed(self, error: Exception | None) -> None:
        self._failures += 1
        # Without its traceback, whose frames would live as long as the breaker does.
        self.last_error = error.with_traceback(None) if error else self.last_error
        if self._failures == FAILURES_TO_OPEN:
            self.opened += 1

    def probed(self) -> None:
        """A connection was made. Whether the server serves, the next command shows."""
        self._failures = min(self._failures, FAILURES_TO_OPEN - 1)

    def succeeded(self) -> None:
        self._failures = 0
