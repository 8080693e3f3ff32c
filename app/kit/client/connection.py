"""One connection of a pipeline: the commands that were sent over it and wait for a reply, in order."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, NoReturn

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import side_by_side
from app.kit.client.breaker import Breaker
from app.kit.client.errors import NOT_SERVING, refusal
from app.kit.client.pending import Command, Counters, PendingCommands, pack
from app.kit.client.redispy import error_parser, read_reply, stream_reader, stream_writer

CONNECT_SECONDS = 1.0
READ_BYTES = 64 * 1024
# Whether the server serves: one that loads its data refuses PING, and the reply to HELLO has its role. Every user may
# send HELLO, whose permission no ACL can take away.
SERVES = pack(["PING"]) + pack(["HELLO", "3"])
SERVES_REPLIES = 2
_INCOMPLETE = object()


class PipelineConnection:
    """Writes what waits in `queue` whenever `wake` is set, and gives each command the reply that comes in its place.

    redis-py connects and makes the handshake. From then on its streams are used directly: redis-py passes each reply
    through three coroutines, which for a batch of replies would cost more than all the rest.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        queue: PendingCommands,
        *,
        wake: asyncio.Event,
        breaker: Breaker,
        counters: Counters,
    ) -> None:
        self.sent: deque[Command] = deque()
        # When bytes were last received or sent, in the loop's time.
        self.heard_at = 0.0
        self.has_replied = False
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._queue = queue
        self._wake = wake
        self._breaker = breaker
        self._counters = counters
        # The commands whose reply was READONLY or LOADING, with it, and the replies so far to the question SERVES.
        self._refused: list[tuple[Command, Exception]] = []
        self._role_replies: list[Any] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._unsent_bytes = 0

    async def connect(self, *, must_be_primary: bool) -> None:
        """Raise why the server cannot be reached, or does not serve: it loads its data, or is a replica."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.connect()
                await self._connection.send_packed_command(SERVES, check_health=False)
                replies = [await read_reply(self._connection) for _ in range(SERVES_REPLIES)]
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer to the greeting in {CONNECT_SECONDS} s") from error
        reason = _why_not_serving(replies)
        if reason is not None and (must_be_primary or not isinstance(reason, ReadOnlyError)):
            raise reason

    async def serve(self) -> Exception | None:
        """Write and read until either ends; both end when the connection does. Returns why."""
        self.heard_at = self._loop.time()
        async with side_by_side(self._write_commands(), self._read_replies()) as tasks:
            self._reader = tasks[1]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        return next((error for error in errors if isinstance(error, Exception)), None)

    def silent_seconds(self, now: float) -> float:
        """How long no byte has been received or sent while a reply is due; `now` in the loop's time."""
        if not self.sent and self._role_replies is None:
            return 0.0
        unsent = stream_writer(self._connection).transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._unsent_bytes, self.heard_at = unsent, now
        return now - self.heard_at

    def unanswered(self) -> list[Command]:
        """In the order in which they were sent."""
        return [*(command for command, _ in self._refused), *self.sent]

    def drop(self) -> None:
        """End serve(): the peer does not answer."""
        if self._reader is not None:
            self._reader.cancel()

    async def close(self) -> None:
        """Discard what has not been sent: its callers have their errors, or it is sent over another connection."""
        if self._connection.is_connected:
            stream_writer(self._connection).transport.abort()
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _write_commands(self) -> None:
        writer = stream_writer(self._connection)
        while True:
            await self._wake.wait()
            if self._refused:
                # A server that may not serve gets no more commands; _take_role_reply() wakes this again.
                self._wake.clear()
                continue
            if not self.sent:
                self.heard_at = self._loop.time()
            batch = self._queue.take_batch()
            if batch:
                self.sent.extend(batch)
                self._counters.batches += 1
                self._counters.commands += len(batch)
                writer.write(b"".join(command.wire for command in batch))
                await writer.drain()
                if batch[-1].is_last_try:
                    # Nothing is sent after it before its reply: it may be what breaks each connection.
                    await asyncio.wait([batch[-1].future])
            if not self._queue.pending:
                self._wake.clear()

    async def _read_replies(self) -> None:
        stream = stream_reader(self._connection)
        replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=error_parser(self._connection), notEnoughData=_INCOMPLETE
        )
        while data := await stream.read(READ_BYTES):
            self.heard_at = self._loop.time()
            replies.feed(data)
            while (reply := replies.gets()) is not _INCOMPLETE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        raise RedisConnectionError("the server has closed the connection")

    def _take(self, reply: Any) -> None:
        if not self.sent:
            self._take_role_reply(reply)
            return
        command = self.sent[0]
        command.replies_due -= 1
        if command.replies_due:
            return
        self.sent.popleft()
        if isinstance(reply, NOT_SERVING):
            command.refused = None if command.runs_script else reply
            self._refused.append((command, reply))
        else:
            self._answer(command, refusal(reply) if isinstance(reply, Exception) else reply)
        if self._refused and not self.sent:
            self._ask_whether_it_serves()

    def _ask_whether_it_serves(self) -> None:
        """Where a script was refused: it may have raised the error itself, after it has written."""
        if all(command.refused for command, _ in self._refused):
            self._stop_serving()
        self._role_replies = []
        stream_writer(self._connection).write(SERVES)

    def _take_role_reply(self, reply: Any) -> None:
        if self._role_replies is None:
            raise RedisConnectionError("a reply that nothing asked for")
        self._role_replies.append(reply)
        if len(self._role_replies) < SERVES_REPLIES:
            return
        replies, self._role_replies = self._role_replies, None
        serves = _why_not_serving(replies) is None
        for command, error in self._refused:
            if serves and command.runs_script:
                self._answer(command, error)
            else:
                command.refused = error
        if any(command.refused for command, _ in self._refused):
            self._stop_serving()
        self._refused = []
        self._wake.set()

    def _stop_serving(self) -> NoReturn:
        """A failover has made a replica of this server, or it loads its data again. What it refused is sent again."""
        raise RedisConnectionError("the server does not serve any more") from self._refused[0][1]

    def _answer(self, command: Command, reply: Any) -> None:
        self.has_replied = True
        self._counters.replies += 1
        if not self._breaker.is_healthy:
            self._breaker.succeeded()
        command.answer(reply)


def _why_not_serving(replies: list[Any]) -> Exception | None:
    """Of the two replies to SERVES. An error of any other kind is an answer too: the user may not send PING."""
    ping, hello = replies
    if isinstance(ping, BusyLoadingError):
        return ping
    if isinstance(hello, dict) and hello.get(b"role") == b"replica":
        return ReadOnlyError("the server is a replica")
    return None


class PipelineState:
    """What a pipeline has at the moment, in one event loop."""

    def __init__(self) -> None:
        self.queue = PendingCommands()
        # Set at each command, and cleared when none is under way any more.
        self.busy = asyncio.Event()
        self.connection: PipelineConnection | None = None
        # Why there was no connection last; None since there has been one.
        self.error: Exception | None = None

    def under_way(self) -> list[Command]:
        """Every command that has no answer yet."""
        return [*(self.connection.unanswered() if self.connection else ()), *self.queue.pending]
