"""Whether reads go to the replica or to the primary: by what the reader has written, and by whether it answers."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.failures import failure_of, reason_of
from app.db.outage import Outage

# How long a read waits for a connection to the replica before it goes to the primary.
PATIENCE_SECONDS = 1.0
# How long no read tries a replica that has failed, but for one at the end of it.
PAUSE_SECONDS = 3.0


class Writers(Protocol):
    """Who has written a moment ago, so that a replica which lags would not show them their own change."""

    async def note(self) -> None:
        """The principal of the running request has written."""

    async def has_written(self) -> bool: ...


class Replica:
    """Opens sessions on a replica, or says that the primary is to be read."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        writers: Writers | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outage = Outage("the database's replica")
        self._sessions = sessions
        self._writers = writers
        self._clock = clock
        self._retry_at = 0.0

    async def open(self) -> AsyncSession | None:
        """A session with a connection that answers. None: read the primary.

        Fails open: while the replica is down its load goes to the primary, and one read every PAUSE_SECONDS tries it.
        """
        if self._clock() < self._retry_at:
            return None
        if self._writers and await self._writers.has_written():
            return None
        return await self.connect()

    async def connect(self) -> AsyncSession | None:
        """As open(), for a reader who has written nothing, and at once."""
        paused = self._retry_at
        if paused:
            # The other readers do not wait for this one's trial.
            self._retry_at = self._clock() + PAUSE_SECONDS
        session = self._sessions()
        connecting = asyncio.create_task(_connect(session))
        try:
            done, _ = await asyncio.wait([connecting], timeout=PATIENCE_SECONDS)
            if done:
                connecting.result()
                self._retry_at = 0.0
                return session
        except asyncio.CancelledError:
            _close_when_done(connecting, session)
            raise
        except Exception as error:
            await session.close()
            if failure_of(error) is None:
                raise
            self.failed(error)
            return None
        _close_when_done(connecting, session)
        self.failed(TimeoutError())
        return None

    def failed(self, error: BaseException) -> None:
        """It does not answer: reads go to the primary for a while."""
        self._retry_at = self._clock() + PAUSE_SECONDS
        self.outage.failed(*reason_of(error))


async def _connect(session: AsyncSession) -> None:
    await session.connection()


_closing: set[asyncio.Task[None]] = set()


def _close_when_done(connecting: asyncio.Task[None], session: AsyncSession) -> None:
    """Cancelling what connects would leave the connection half made."""

    async def close() -> None:
        await asyncio.gather(connecting, return_exceptions=True)
        await session.close()

    task = asyncio.create_task(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
