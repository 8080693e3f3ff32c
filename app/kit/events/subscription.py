"""A subscription of this process to one topic: its streams, and up to where they have its events."""

import asyncio

from app.kit.events.event import Cursor, Message
from app.kit.events.stream import Stream


class SequenceGap(Exception):
    """The connection has skipped events of a channel, as it does when the nodes of a cluster lose contact."""


class Subscription:
    """The streams of a topic, and two cursors: up to `replayed` they have it from the history, to `delivered` live."""

    __slots__ = ("streams", "confirmed", "delivered", "replayed", "topic", "requested")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.streams: set[Stream] = set()
        self.requested = False
        self.confirmed = asyncio.Event()
        self.replayed: Cursor | None = None
        self.delivered: Cursor | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Every stream has all events up to here; None before the first stream has been replayed."""
        replayed, delivered = self.replayed, self.delivered
        if delivered is None or (replayed and replayed.epoch == delivered.epoch and replayed > delivered):
            return replayed
        return delivered

    def note_replayed(self, cursor: Cursor) -> None:
        """A new stream has all events up to `cursor`. Of several new streams the earliest cursor counts."""
        replayed = self.replayed
        if replayed is None or replayed.epoch != cursor.epoch or replayed > cursor:
            self.replayed = cursor

    def check(self, message: Message) -> None:
        """Raises SequenceGap when the event before this one was neither delivered nor replayed."""
        cursor = self.cursor
        if cursor and cursor.epoch == message.cursor.epoch and message.previous > cursor.position:
            raise SequenceGap(f"the event before {message.cursor} on {self.topic} did not arrive")

    def advance(self, cursor: Cursor) -> None:
        """All events up to `cursor` have been offered to every stream."""
        delivered = self.delivered
        if delivered is None or delivered.epoch != cursor.epoch or delivered < cursor:
            self.delivered = cursor

    def reset(self) -> None:
        """Forget the cursors: there is no stream, and events may have been missed."""
        self.replayed = self.delivered = None
