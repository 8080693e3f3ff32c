"""One line in the log when an outage begins and one when it is over, however many meet it in between."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)
# Answers among failures are no end of it: one table may be refused, or one statement too slow, while others go on.
QUIET_SECONDS = 3.0


class Outage:
    """How one server has failed since it last answered without a failure for QUIET_SECONDS."""

    def __init__(self, server: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._kinds: set[str] = set()
        self._failed_at = 0.0

    def failed(self, kind: str, advice: str = "") -> None:
        """`kind` is a class of error; another one in the same outage is one more line."""
        self._failed_at = self._clock()
        if kind not in self._kinds:
            self._kinds.add(kind)
            logger.warning("%s is unavailable: %s%s", self._server, kind, advice)

    def answered(self) -> None:
        if self._kinds and self._clock() - self._failed_at >= QUIET_SECONDS:
            self._kinds.clear()
            logger.warning("%s answers again", self._server)
