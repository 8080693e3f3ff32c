"""Looks at all streams regularly, spread over time by a timer wheel: heartbeats, stalled clients, and old streams."""

import asyncio
import secrets

from app.kit.events.stream import Stream
from app.kit.telemetry import Telemetry

HEARTBEAT_SECONDS = 14.0
SPOKES = 56
# How often a stream is looked at in a turn. One whose client has taken nothing between two looks is closed: after 3.5
# to 7 seconds.
LOOKS_A_TURN = 4


class HeartbeatWheel:
    """Sends each stream a heartbeat every `turn_seconds`, at one of SPOKES moments that is drawn at random.

    A timer wheel as of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), with one timeout for all.
    """

    def __init__(self, *, telemetry: Telemetry, turn_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._telemetry = telemetry
        self._turn_seconds = turn_seconds
        self._spokes: list[set[Stream]] = [set() for _ in range(SPOKES)]

    def add(self, stream: Stream) -> None:
        self._spokes[secrets.randbelow(SPOKES)].add(stream)

    def discard(self, stream: Stream) -> None:
        for spoke in self._spokes:
            spoke.discard(stream)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for number in range(SPOKES):
                await asyncio.sleep(self._turn_seconds / SPOKES)
                for look in range(LOOKS_A_TURN):
                    for stream in self._spokes[(number + look * SPOKES // LOOKS_A_TURN) % SPOKES]:
                        self._look_at(stream, now=loop.time())
                for stream in self._spokes[number]:
                    stream.send_heartbeat()

    def _look_at(self, stream: Stream, *, now: float) -> None:
        if stream.is_stalled:
            # Fails closed: the client does not read. What its writer waits for may last for as long as TCP retries.
            self._telemetry.count("events_streams_closed", reason="stalled")
            stream.discard()
            if stream.writer is not None:
                stream.writer.cancel()
        elif now >= stream.ends_at and not stream.ended:
            self._telemetry.count("events_streams_closed", reason="age")
            stream.end()
