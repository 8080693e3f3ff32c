"""A circuit breaker: after a few failures in a row no request waits, until the server has answered again.

Michael Nygard, "Release It!" (2007), chapter 5.
"""

from typing import Literal

FAILURES_TO_OPEN = 3


class Breaker:
    """Counts failures in a row. A new connection is the probe: after it one more failure opens the circuit again.

    `is_open` and `is_healthy` (the last thing reported was no failure) are read for each command, so they are plain.
    """

    __slots__ = ("_failures", "is_healthy", "is_open", "last_error", "opened")

    def __init__(self) -> None:
        self._failures = 0
        self.is_open = False
        self.is_healthy = True
        self.opened = 0
        self.last_error: Exception | None = None

    @property
    def state(self) -> Literal["closed", "open"]:
        return "open" if self.is_open else "closed"

    def failed(self, error: Exception | None) -> None:
        self._set(self._failures + 1)
        # Without its traceback, whose frames would live as long as the breaker does.
        self.last_error = error.with_traceback(None) if error else self.last_error
        if self._failures == FAILURES_TO_OPEN:
            self.opened += 1

    def probed(self) -> None:
        """A connection was made. Whether the server serves, the next command shows."""
        self._set(min(self._failures, FAILURES_TO_OPEN - 1))

    def succeeded(self) -> None:
        self._set(0)

    def _set(self, failures: int) -> None:
        self._failures = failures
        self.is_open = failures >= FAILURES_TO_OPEN
        self.is_healthy = failures == 0
