"""The commands of one pipeline that wait to be sent, in order; and a command as bytes (RESP)."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.exceptions import DataError

from app.kit.client.commands import runs_script

Encodable = str | bytes | bytearray | memoryview | int | float

BATCH_COMMANDS = 512
BATCH_BYTES = 256 * 1024
# How often a command is sent at most: the command itself may be what breaks its connections.
SENDS = 3
# What hiredis packs by itself: of other types it would take some that redis-py refuses.
_PLAIN = frozenset({str, bytes, int})


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
    """One command under way: its bytes, its caller's future, and the end of the caller's wait in the loop's time."""

    __slots__ = (
        "deadline",
        "future",
        "name",
        "refused",
        "repeatable",
        "replies",
        "replies_due",
        "sends",
        "wire",
    )

    def __init__(
        self,
        wire: bytes,
        future: asyncio.Future[Any],
        deadline: float,
        *,
        repeatable: bool,
        name: Any = "",
        replies: int = 1,
    ) -> None:
        """`replies`: how many replies `wire` gets. The last one is the answer."""
        self.wire = wire
        self.replies = self.replies_due = replies
        self.future = future
        self.deadline = deadline
        self.repeatable = repeatable
        self.name = name
        self.sends = 0
        # The server's own reply that it does not serve (READONLY, LOADING): the command did not run.
        self.refused: Exception | None = None

    @property
    def is_last_try(self) -> bool:
        return self.sends == SENDS

    @property
    def runs_script(self) -> bool:
        return runs_script((self.name,))

    def answer(self, reply: Any) -> None:
        """Give the caller the reply, or raise it there; without effect where the caller waits no more."""
        if self.future.done():
            return
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)


class PendingCommands:
    """What waits to be sent. What was sent is with the connection that has sent it."""

    def __init__(self) -> None:
        self.pending: deque[Command] = deque()

    def take_batch(self) -> list[Command]:
        """The next ones to be sent, bounded in commands and bytes; one that is sent for the last time goes alone.

        Commands whose caller waits no more are dropped.
        """
        batch: list[Command] = []
        size = 0
        while self.pending and len(batch) < BATCH_COMMANDS and size < BATCH_BYTES:
            if self.pending[0].sends == SENDS - 1 and batch:
                break
            command = self.pending.popleft()
            if command.future.done():
                continue
            command.sends += 1
            command.replies_due = command.replies
            command.refused = None
            batch.append(command)
            size += len(command.wire)
            if command.is_last_try:
                break
        return batch

    def send_again(self, sent: Iterable[Command], error: Exception) -> int:
        """The replies will not come: what may be sent again waits again, in order; the rest fails.

        A refused command did not run, so it may be sent again; after SENDS its caller gets the refusal. Any other
        command that must not run twice gets `error`. Returns how many wait again.
        """
        again = []
        for command in sent:
            if command.sends < SENDS and (command.refused or command.repeatable):
                again.append(command)
            else:
                command.answer(command.refused or error)
        self.pending.extendleft(reversed(again))
        return len(again)

    def forget_unwanted(self) -> None:
        """Drop commands whose caller waits no more: without a connection no batch is taken, which would drop them."""
        self.pending = deque(command for command in self.pending if not command.future.done())

    def fail_pending(self, error: Exception) -> None:
        for command in self.pending:
            command.answer(error)
        self.pending.clear()


def pack(args: Iterable[Encodable]) -> bytes:
    """One command, packed by hiredis with the rules of redis-py.

    The name may have several words ("SCRIPT LOAD"). DataError for a value of any other type.
    """
    name, *values = args
    words = name.split() if isinstance(name, str) else [name]
    if not words or not words[0]:
        # Redis would not answer it, and the reply to the next command would be taken for its reply.
        raise DataError("a command has a name")
    if not _PLAIN.issuperset(map(type, values)):
        values = [*map(_encodable, values)]
    packed: bytes = hiredis.pack_command((*words, *values))
    return packed


def _encodable(value: Encodable) -> str | bytes | int:
    """bool and None are refused, as redis-py does: Redis would store their names."""
    kind = type(value)
    if kind in _PLAIN:
        return value  # type: ignore[return-value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, bool) or not isinstance(value, str | bytes | int):
        raise DataError(f"Redis takes bytes, str, int and float, not {kind.__name__}")
    return value
