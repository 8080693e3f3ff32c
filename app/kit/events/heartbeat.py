"""Sends the heartbeats of all streams, spread over time by a timer wheel."""

import asyncio
import secrets

from app.kit.events.stream import Stream

HEARTBEAT_SECONDS = 14.0
SPOKES = 56


class HeartbeatWheel:
    """Sends each stream a heartbeat every `turn_seconds`, at one of SPOKES moments that is drawn at random.

    A timer wheel as of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), with one timeout for all.
    """

    def __init__(self, *, turn_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._turn_seconds = turn_seconds
        self._spokes: list[set[Stream]] = [set() for _ in range(SPOKES)]

    def add(self, stream: Stream) -> None:
        self._spokes[secrets.randbelow(SPOKES)].add(stream)

    def discard(self, stream: Stream) -> None:
        for spoke in self._spokes:
            spoke.discard(stream)

    async def run(self) -> None:
        while True:
            for spoke in self._spokes:
                await asyncio.sleep(self._turn_seconds / SPOKES)
                for stream in spoke:
                    stream.send_heartbeat()
