"""The commands of one pipeline: those that wait to be sent, and those that wait for their reply, each in order."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BATCH_COMMANDS = 512
BATCH_BYTES = 256 * 1024


@dataclass(slots=True)
class Counters:
    """What a pipeline has done since it was made."""

    commands: int = 0
    batches: int = 0
    replies: int = 0
    connects: int = 0
    connect_failures: int = 0
    breaks: int = 0
    repeats: int = 0
    timeouts: int = 0
    refused: int = 0
    stalls: int = 0


class Command:
    """One command under way: its bytes, its caller's future, and until when (loop time) the caller waits."""

    __slots__ = ("deadline", "error", "future", "repeatable", "replies", "replies_due", "wire")

    def __init__(
        self, wire: bytes, future: asyncio.Future[Any], deadline: float, *, repeatable: bool, replies: int = 1
    ) -> None:
        """`replies`: how many `wire` brings. The last one is the answer."""
        self.wire = wire
        self.replies = self.replies_due = replies
        self.future = future
        self.deadline = deadline
        self.repeatable = repeatable
        self.error: Exception | None = None

    def not_run(self, error: Exception) -> None:
        """The server refused it, and nothing happened: it may be sent anew, repeatable or not."""
        self.error = error
        self.replies_due = self.replies

    def answer(self, reply: Any) -> None:
        """Give the caller the reply, or the error that it is. A caller that has gone gets nothing."""
        if self.future.done():
            return
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)


class CommandQueue:
    """Replies come in the order of the commands, so the first of `sent` is whose reply comes next."""

    def __init__(self) -> None:
        self.pending: deque[Command] = deque()
        self.sent: deque[Command] = deque()

    def __bool__(self) -> bool:
        return bool(self.pending or self.sent)

    def take_batch(self) -> list[bytes]:
        """The next batch, now sent, bounded in commands and bytes; what nobody waits for any more is left out."""
        batch: list[bytes] = []
        size = 0
        while self.pending and len(batch) < BATCH_COMMANDS and size < BATCH_BYTES:
            command = self.pending.popleft()
            if not command.future.done():
                self.sent.append(command)
                batch.append(command.wire)
                size += len(command.wire)
        return batch

    def send_again(self, error: Exception) -> int:
        """The replies to `sent` will not come: what may be sent twice waits again, in order; the rest gets `error`."""
        lost = [command for command in self.sent if not command.future.done()]
        self.sent.clear()
        again = [command for command in lost if command.repeatable]
        for command in again:
            command.replies_due = command.replies
        self.pending.extendleft(reversed(again))
        _fail((command for command in lost if not command.repeatable), error)
        return len(again)

    def forget_unwanted(self) -> None:
        """Drop what waits to be sent for callers that have gone: while there is no server nothing else would."""
        self.pending = deque(command for command in self.pending if not command.future.done())

    def fail_pending(self, error: Exception) -> None:
        _fail(self.pending, error)
        self.pending.clear()

    def expired(self, now: float) -> list[Command]:
        """Those whose callers have waited long enough."""
        return [c for c in (*self.sent, *self.pending) if c.deadline <= now and not c.future.done()]

    def extend(self, seconds: float) -> None:
        """Move all deadlines: for this long nobody could have been answered."""
        for command in (*self.sent, *self.pending):
            command.deadline += seconds


def _fail(commands: Iterable[Command], error: Exception) -> None:
    for command in commands:
        command.answer(error)
