"""A client of event streams for the tests, which reads and parses them as EventSource does."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from app.kit.aio import end_tasks
from app.kit.events.hub import Hub
from tests.waiting import eventually


@dataclass(frozen=True)
class Seen:
    id: str
    type: str
    data: Any


class Parser:
    """The event stream format (HTML Living Standard 9.2.6), fed with bytes as they come."""

    def __init__(self) -> None:
        self.events: list[Seen] = []
        # What the hub has said of its connection to Redis: live or interrupted.
        self.states: list[str] = []
        self.comments = 0
        self.retry_ms: int | None = None
        self.first_id = ""
        self.last_event_id = ""
        # The last id whose block is complete, from which an EventSource resumes.
        self.dispatched_id = ""
        self._buffer = b""
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._take(line.decode())

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            self._dispatch()
        elif not name:
            self.comments += 1
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            self.last_event_id = value
            self.first_id = self.first_id or value
        elif name == "retry":
            self.retry_ms = int(value)

    def _dispatch(self) -> None:
        if self._data:
            kind = self._type or "message"
            if kind in ("live", "interrupted"):
                self.states.append(kind)
            else:
                self.events.append(Seen(self.last_event_id, kind, json.loads("\n".join(self._data))))
        self._type, self._data = "", []
        self.dispatched_id = self.last_event_id


class Reader(Parser):
    """Reads a stream in a task until the stream ends or the reader is closed."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self.ended = False
        self.stream = stream
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for chunk in self.stream:
            self.feed(chunk)
        self.ended = True

    @property
    def is_live(self) -> bool:
        """Whether it has an id from which it can resume."""
        return bool(self.last_event_id)

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events if event.type != "resync"]

    @property
    def resyncs(self) -> list[str]:
        return [event.data["data"]["reason"] for event in self.events if event.type == "resync"]

    async def close(self) -> None:
        await end_tasks([self.task])
        await self.stream.aclose()


async def live_reader(hub: Hub, *topics: str, last_event_id: str | None = None) -> Reader:
    """A reader that receives every event that is published from now on."""
    reader = Reader(hub.subscribe(topics, last_event_id=last_event_id))
    await eventually(lambda: reader.is_live)
    return reader
