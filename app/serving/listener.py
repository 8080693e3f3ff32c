"""The connections of one worker: which are admitted, how long each may take, and why each ended early."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Any

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from app.kit.telemetry import NoTelemetry, Telemetry
from app.serving.clock import Clock
from app.serving.connection import Connection
from app.serving.handlers import Handlers
from app.serving.limits import Admission, Limits

logger = logging.getLogger(__name__)
# Refused connections that may be told so at a time; more are cut.
MOST_REFUSALS = 64
REPORT_SECONDS = 10.0
# Connections that are looked at before others of the loop have their turn.
AT_A_TIME = 250


class Listener:
    """What all connections of a worker share."""

    def __init__(
        self,
        handlers: Handlers,
        config: Config,
        limits: Limits,
        context: WorkerContext,
        *,
        state: dict[str, Any],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.handlers = handlers
        self.config = config
        self.limits = limits
        self.context = context
        self.state = state
        self.loop = asyncio.get_running_loop()
        self.clock = Clock(limits)
        self._telemetry = telemetry or NoTelemetry()
        self._admission = Admission(limits)
        self._open: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._ended: Counter[str] = Counter()

    @property
    def is_stopping(self) -> bool:
        return self.context.terminated.is_set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> bool:
        """Whether the connection is admitted."""
        refusal = self._admission.refusal(connection.address)
        if refusal is None:
            self._admission.add(connection.address)
            connection.is_admitted = True
            self._open.add(connection)
            return True
        self.count(refusal)
        if len(self._refused) < MOST_REFUSALS:
            self._refused.add(connection)
        else:
            connection.abort()
        return False

    def remove(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._admission.remove(connection.address)
        self._refused.discard(connection)
        self.clock.forget(connection)

    def count(self, reason: str) -> None:
        """A connection ended early. One line tells how many did, and not one line each."""
        self._ended[reason] += 1
        self._telemetry.count("connections_ended", reason=reason)

    async def watch(self) -> None:
        """Look at every connection once a second, without an end."""
        reported = self.loop.time()
        while True:
            await asyncio.sleep(self.clock.interval_seconds)
            await self._look()
            self._telemetry.gauge("connections_open", len(self._open))
            now = self.loop.time()
            if now - reported >= REPORT_SECONDS:
                reported = now
                self.report()

    async def _look(self) -> None:
        """A call of its own, at whose end no variable keeps the last connection."""
        now = self.loop.time()
        for number, connection in enumerate([*self._open, *self._refused]):
            # It may have ended since: the clock would never forget it.
            if connection in self._open or connection in self._refused:
                self._look_at(connection, now)
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)

    def _look_at(self, connection: Connection, now: float) -> None:
        """A defect ends the connection, and never the clock, which holds the limits of all."""
        try:
            reason = self.clock.overdue(connection, now)
        except Exception as error:
            connection.report(error)
            connection.abort()
        else:
            if reason:
                self.count(reason)

    def report(self) -> None:
        if self._ended:
            logger.info("connections ended: %s", ", ".join(f"{count} {why}" for why, count in self._ended.items()))
            self._ended.clear()

    def close_idle(self) -> None:
        for connection in list(self._open):
            if connection.is_idle:
                connection.close()

    async def all_gone(self, seconds: float, *, close_idle: bool = True) -> int:
        """Wait until all connections have ended, for at most `seconds`; the number of those that have not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    if close_idle:
                        self.close_idle()
                    await asyncio.sleep(0.02)
        return len(self._open)

    def cut(self) -> None:
        for connection in [*self._open, *self._refused]:
            connection.abort()
