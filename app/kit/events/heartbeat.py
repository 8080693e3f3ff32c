"""One wheel that sends the heartbeats of all streams, each at a moment of its own."""

import asyncio
import secrets

from app.kit.events.client import Client

TURN_SECONDS = 14.0
SPOKES = 56


class Wheel:
    """Every client gets a heartbeat once a turn. Its spoke is drawn at random, so that not all beat at once."""

    def __init__(self, *, turn_seconds: float = TURN_SECONDS) -> None:
        self._turn_seconds = turn_seconds
        self._spokes: list[set[Client]] = [set() for _ in range(SPOKES)]

    def add(self, client: Client) -> None:
        self._spokes[secrets.randbelow(SPOKES)].add(client)

    def discard(self, client: Client) -> None:
        for spoke in self._spokes:
            spoke.discard(client)

    async def run(self) -> None:
        while True:
            for spoke in self._spokes:
                await asyncio.sleep(self._turn_seconds / SPOKES)
                for client in spoke:
                    client.beat()
