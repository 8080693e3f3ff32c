"""How late the event loop runs its timers: what blocks it, every request and stream waits for."""

import asyncio

from app.kit.telemetry import Telemetry

EVERY_SECONDS = 1.0


class LoopLag:
    """Measures it once in EVERY_SECONDS, as the distribution `loop_lag_seconds`."""

    def __init__(self, telemetry: Telemetry, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._telemetry = telemetry
        self._every_seconds = every_seconds
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            due = loop.time() + self._every_seconds
            try:
                async with asyncio.timeout_at(due):
                    await self._stopping.wait()
            except TimeoutError:
                self._telemetry.observe("loop_lag_seconds", loop.time() - due)

    def stop(self) -> None:
        self._stopping.set()
