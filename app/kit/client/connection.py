"""One connection of a pipeline: what was sent over it and waits for a reply, in order."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import end_tasks
from app.kit.client.breaker import Breaker
from app.kit.client.errors import NOT_SERVING, refusal
from app.kit.client.pending import Command, Counters, PendingCommands
from app.kit.client.resp import pack

CONNECT_SECONDS = 1.0
READ_BYTES = 64 * 1024
_INCOMPLETE = object()


class PipelineConnection:
    """Writes what waits in `queue` whenever `wake` is set, and gives each command the reply that comes in its place.

    redis-py connects and greets. From then on its streams are used as they are: its own way to a reply leads through
    three coroutines, which for a batch of replies would cost more than all the rest.
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
        # When it last showed a sign of life, in the loop's time.
        self.heard_at = 0.0
        self.has_replied = False
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._queue = queue
        self._wake = wake
        self._breaker = breaker
        self._counters = counters
        # What a server that has ceased to serve has said that it did not run.
        self._refused: list[Command] = []
        self._reader: asyncio.Task[None] | None = None
        self._unsent_bytes = 0

    async def connect(self, *, must_be_primary: bool) -> None:
        """Raise what says that the server cannot be reached, or does not serve: it loads its data, or is a replica."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.connect()
                await self._ask_whether_it_serves(must_be_primary=must_be_primary)
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer to the greeting in {CONNECT_SECONDS} s") from error

    async def serve(self) -> Exception | None:
        """Write and read until either ends; both end when the connection does. Returns why."""
        self.heard_at = self._loop.time()
        writer = asyncio.create_task(self._write_commands())
        self._reader = asyncio.create_task(self._read_replies())
        tasks = (writer, self._reader)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        return next((error for error in errors if isinstance(error, Exception)), None)

    def silent_seconds(self, now: float) -> float:
        """For how long nothing has come, or gone out, while a reply is due."""
        if not self.sent:
            return 0.0
        unsent = self._writer.transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._unsent_bytes, self.heard_at = unsent, now
        return now - self.heard_at

    def unanswered(self) -> list[Command]:
        """In the order in which they were sent."""
        return [*self._refused, *self.sent]

    def drop(self) -> None:
        """End serve(): the other end is taken for dead."""
        if self._reader is not None:
            self._reader.cancel()

    async def close(self) -> None:
        """Throw away what has not gone out: its callers have been told, or it goes out elsewhere."""
        if self._connection.is_connected:
            self._writer.transport.abort()
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    @property
    def _writer(self) -> asyncio.StreamWriter:
        """Of redis-py's connection, whose types do not tell of it."""
        writer: asyncio.StreamWriter = getattr(self._connection, "_writer")  # noqa: B009
        return writer

    @property
    def _stream(self) -> asyncio.StreamReader:
        stream: asyncio.StreamReader = getattr(self._connection, "_reader")  # noqa: B009
        return stream

    async def _ask_whether_it_serves(self, *, must_be_primary: bool) -> None:
        # HELLO, because every user may say it, and its answer tells the role.
        await self._connection.send_packed_command(pack(["PING"]) + pack(["HELLO", "3"]), check_health=False)
        for _ in range(2):
            try:
                # Not the method of a connection by way of sentinels, which makes of READONLY a lost connection.
                reply = await AbstractConnection.read_response(self._connection, disconnect_on_error=False)
            except ResponseError:
                # An answer all the same: the user may not ask.
                continue
            if must_be_primary and isinstance(reply, dict) and reply.get(b"role") == b"replica":
                raise ReadOnlyError("the server is a replica")

    async def _write_commands(self) -> None:
        writer = self._writer
        # Once the server refuses what it gets it gets no more; the reader ends it all when the last refusal is in.
        while not self._refused:
            await self._wake.wait()
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
                    # It goes alone, and nobody goes with it: it may be what breaks each connection.
                    await asyncio.wait([batch[-1].future])
            if not self._queue.pending:
                self._wake.clear()
        await asyncio.Event().wait()

    async def _read_replies(self) -> None:
        stream = self._stream
        # Errors become the classes that redis-py has for them.
        error_of = getattr(self._connection, "_parser").parse_error  # noqa: B009
        replies = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of, notEnoughData=_INCOMPLETE)
        while data := await stream.read(READ_BYTES):
            self.heard_at = self._loop.time()
            replies.feed(data)
            while (reply := replies.gets()) is not _INCOMPLETE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        raise RedisConnectionError("the server has closed the connection")

    def _take(self, reply: Any) -> None:
        """Give the reply to the command that is next in turn."""
        if not self.sent:
            raise RedisConnectionError("a reply that nothing asked for")
        command = self.sent[0]
        command.replies_due -= 1
        if command.replies_due:
            return
        self.sent.popleft()
        if isinstance(reply, NOT_SERVING):
            # A failover has made a replica of this server, which may load its data anew. What was sent to it meets
            # with the same refusal, and goes to the new primary.
            command.refused = reply
            self._refused.append(command)
        else:
            self.has_replied = True
            self._counters.replies += 1
            self._breaker.succeeded()
            command.answer(refusal(reply) if isinstance(reply, Exception) else reply)
        if self._refused and not self.sent:
            raise RedisConnectionError("the server does not serve any more") from self._refused[0].refused
