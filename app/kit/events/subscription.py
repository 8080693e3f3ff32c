"""A subscription of this process: a channel or a pattern, and the streams that listen to it."""

import asyncio

from app.kit.events.event import Cursor, Message
from app.kit.events.stream import Stream


class Gap(Exception):
    """Events of a channel are missing in the live stream, as when the nodes of a cluster lose sight of each other."""


class Subscription:
    """Who listens, and how far they have come: `joined_at` by the history, `delivered` by this process's connection."""

    __slots__ = ("streams", "confirmed", "delivered", "joined_at", "name", "requested")

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: set[Stream] = set()
        self.requested = False
        self.confirmed = asyncio.Event()
        self.joined_at: Cursor | None = None
        self.delivered: Cursor | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Each event up to here is known to every listener; None where there is none that could know."""
        joined_at, delivered = self.joined_at, self.delivered
        if delivered is None or (joined_at and joined_at.epoch == delivered.epoch and joined_at > delivered):
            return joined_at
        return delivered

    def begin_at(self, cursor: Cursor) -> None:
        """A new listener has read everything up to `cursor`. Of several, the one furthest behind counts."""
        joined_at = self.joined_at
        if joined_at is None or joined_at.epoch != cursor.epoch or joined_at > cursor:
            self.joined_at = cursor

    def check(self, message: Message) -> None:
        """Raises Gap when the event before this one is not known."""
        cursor = self.cursor
        if cursor and cursor.epoch == message.cursor.epoch and message.previous > cursor.position:
            raise Gap(f"the event before {message.cursor} on {self.name} did not come")

    def advance(self, cursor: Cursor) -> None:
        """Every listener has been offered what there is up to `cursor`."""
        delivered = self.delivered
        if delivered is None or delivered.epoch != cursor.epoch or delivered < cursor:
            self.delivered = cursor

    def forget(self) -> None:
        """Nobody listens, and events may have passed."""
        self.joined_at = self.delivered = None
