"""Failures of a database as errors that are answered, and one line in the log for each outage, however many meet it."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.db.failures import failure_of, reason_of
from app.errors import Conflict, Unavailable

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
            logger.warning("%s is unavailable: %s%s", self._server, kind, f": {advice}" if advice else "")

    def answered(self) -> None:
        if self._kinds and self._clock() - self._failed_at >= QUIET_SECONDS:
            self._kinds.clear()
            logger.warning("%s answers again", self._server)


@asynccontextmanager
async def translated(outage: Outage) -> AsyncIterator[None]:
    """Fails closed: a database that is down, or not migrated yet, is a 503, never a 500 and never an empty answer."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure == "down":
            outage.failed(*reason_of(error))
            raise Unavailable("The database does not answer.") from error
        if failure == "behind":
            outage.failed(*reason_of(error))
            raise Unavailable("The database is not ready for this version.") from error
        if failure == "collision":
            raise Conflict("The change collides with what is stored.") from error
        raise
