"""One wheel that sends the heartbeats of all streams, each at a moment of its own."""

import asyncio
import secrets

from app.kit.events.stream import Stream

HEARTBEAT_SECONDS = 14.0
SPOKES = 56


class HeartbeatWheel:
    """Every client gets a heartbeat once a turn. Its spoke is drawn at random, so that not all beat at once."""

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
                    stream.beat()
