"""A circuit breaker: after a few failures in a row nobody waits, until the server has answered again."""

import ssl
from typing import Literal

from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

FAILURES_TO_OPEN = 3


class CircuitOpen(RedisConnectionError):
    """Refused at once: the server has failed too often in a row and has not answered since."""


class NotSent(RedisConnectionError):
    """The server cannot be reached, and the command has not been sent: trying elsewhere does no harm."""


class Breaker:
    """Counts failures in a row. Whoever reconnects is the probe: its success closes the circuit."""

    __slots__ = ("_failures", "opened")

    def __init__(self) -> None:
        self._failures = 0
        self.opened = 0

    @property
    def state(self) -> Literal["closed", "open"]:
        return "open" if self._failures >= FAILURES_TO_OPEN else "closed"

    def failed(self) -> None:
        self._failures += 1
        if self._failures == FAILURES_TO_OPEN:
            self.opened += 1

    def succeeded(self) -> None:
        self._failures = 0


def is_permanent(error: BaseException | None) -> bool:
    """Refusals that trying again does not mend: credentials, certificates."""
    while error is not None:
        if isinstance(error, AuthenticationError | ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
