"""The automatic pipeline: commands that any coroutine issues in one tick of the loop share one write and one read.

One connection carries them; replies come in the order of the commands (Redis' pipelining), so the n-th reply is
the n-th command's. A cancelled caller's reply is read and dropped, and nobody else notices.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import asdict
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import end_tasks
from app.kit.client.breaker import Breaker
from app.kit.client.connection import PipelineConnection
from app.kit.client.deadline import Deadline
from app.kit.client.errors import CircuitOpen, NotSent, is_permanent
from app.kit.client.pending import Command, Counters, PendingCommands
from app.kit.client.resp import Encodable, pack

logger = logging.getLogger(__name__)

# How often waiting commands are looked at, and how late that look may be before the loop itself is to blame.
WATCH_SECONDS = 0.01
STALL_SECONDS = 0.1
# No byte for so long while a reply is due: the peer is gone without saying so (SIGSTOP, a pulled cable). It doubles
# with each such break in a row: a script that is merely slow, and may be repeated, gets the time that it needs.
SILENCE_SECONDS = 1.0
LONGEST_SILENCE_SECONDS = 8.0
RECONNECT_BACKOFF_SECONDS = (0.02, 0.5)


class Pipeline:
    """One server's pipeline over one connection, made anew whenever it is lost.

    `make_connection` gives an unconnected redis-py connection. A command waits at most the budget of the work it
    belongs to (app.kit.client.deadline), or `timeout_seconds` where there is none. While the server cannot be reached
    commands wait for it until then, or, where `waits_for_server` is off (a cluster's node), fail with NotSent.
    """

    def __init__(
        self,
        make_connection: Callable[[], AbstractConnection],
        *,
        timeout_seconds: float,
        waits_for_server: bool = True,
    ) -> None:
        self._make_connection = make_connection
        self._timeout_seconds = timeout_seconds
        self._waits_for_server = waits_for_server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue = PendingCommands()
        self._wake = asyncio.Event()
        self._waiting = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._connection: PipelineConnection | None = None
        self._silence_seconds = SILENCE_SECONDS
        self._last_error: Exception | None = None
        self.closed = False
        self.breaker = Breaker()
        self.counters = Counters()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def last_error(self) -> Exception | None:
        """Why there is no connection; None while there is one."""
        return None if self.connected else self._last_error

    async def execute(self, args: Iterable[Encodable], *, repeatable: bool) -> Any:
        """The raw reply. Raises what the server answered (ResponseError), or that it is unreachable.

        `repeatable`: sending the command again after its reply was lost does no harm.
        """
        with Deadline(self._timeout_seconds) as deadline:
            self.check_breaker(deadline)
            return await self.send(args, repeatable=repeatable, deadline=deadline.at)

    def check_breaker(self, deadline: Deadline) -> None:
        """CircuitOpen where the work that is running has no time for a server that does not answer."""
        try:
            deadline.check(self.breaker)
        except CircuitOpen:
            self.counters.refused += 1
            raise

    def send(
        self, args: Iterable[Encodable], *, repeatable: bool, deadline: float, asking: bool = False
    ) -> asyncio.Future[Any]:
        """execute() whose caller keeps the time: `deadline` in the loop's time.

        `asking` puts ASKING right before the command, as a cluster's ASK redirection wants.
        """
        if self.closed:
            raise RedisConnectionError("the client is closed")
        loop = asyncio.get_running_loop()
        self._keep_running(loop)
        wire, replies = (pack(["ASKING"]) + pack(args), 2) if asking else (pack(args), 1)
        command = Command(wire, loop.create_future(), deadline, repeatable=repeatable, replies=replies)
        self._queue.pending.append(command)
        self._wake.set()
        self._waiting.set()
        return command.future

    def _keep_running(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start at the first command, and again where a loop that ends has cancelled everything but its callers."""
        if self._loop is not loop:
            # What an earlier loop has left behind ended with it.
            self._loop, self._queue, self._connection, self._tasks = loop, PendingCommands(), None, []
        if not self._tasks or any(task.done() or task.cancelling() for task in self._tasks):
            self._wake, self._waiting = asyncio.Event(), asyncio.Event()
            # Of no caller's context: a budget or a request must not live on in them.
            runs = (self._run(), self._watch())
            self._tasks = [loop.create_task(run, context=Context()) for run in runs]

    async def retire(self) -> None:
        """Close once nobody waits any more; what has not been sent goes elsewhere (NotSent)."""
        self._waits_for_server = False
        self._queue.fail_pending(NotSent("the server has left"))
        try:
            while self._under_way():  # noqa: ASYNC110  each wait has its deadline, so this ends
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Disconnect for good. Whoever still waits gets an error."""
        self.closed = True
        if self._loop is asyncio.get_running_loop():
            try:
                await end_tasks(self._tasks)
            finally:
                self._queue.fail_pending(RedisConnectionError("the client is closed"))

    def stats(self) -> dict[str, Any]:
        """State and counters, for metrics and health."""
        state = {"connected": self.connected, "breaker": self.breaker.state, "opened": self.breaker.opened}
        return state | asdict(self.counters)

    async def _run(self) -> None:
        """Connect, serve until the connection breaks, and again. Connecting is what probes a server that is down."""
        delay = RECONNECT_BACKOFF_SECONDS[0]
        while True:
            replies = self.counters.replies
            try:
                failed = await self._connect_and_serve()
            except Exception as error:
                # Whatever it was, this task must live: nobody else would ever connect again.
                self._could_not_connect(error)
                failed = True
            if failed:
                self.breaker.failed(self._last_error)
            # A server that takes connections but answers nothing on them is as good as one that refuses them.
            well = not failed or self.counters.replies > replies
            delay = RECONNECT_BACKOFF_SECONDS[0] if well else min(RECONNECT_BACKOFF_SECONDS[1], delay * 2)
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311  full jitter, no secret

    async def _connect_and_serve(self) -> bool:
        """Raises where there is no connection. Whether the one that there was has cost anybody an answer."""
        raw = self._make_connection()
        # The deadlines are the commands' own. redis-py would wrap each write in asyncio.wait_for, which on
        # Python 3.11 can swallow a cancellation.
        raw.socket_timeout = None
        connection = PipelineConnection(raw, self._queue, wake=self._wake, breaker=self.breaker, counters=self.counters)
        try:
            # A node of a cluster may be a replica: it says itself (MOVED) who is not.
            await connection.connect(must_be_primary=self._waits_for_server)
            self._has_connected(connection)
            self._last_error = await connection.serve()
            return bool(connection.unanswered())
        finally:
            self._recover(connection)
            await connection.close()

    def _has_connected(self, connection: PipelineConnection) -> None:
        """The server answers. Only its first reply to a command says that it serves."""
        self._connection, self._last_error = connection, None
        self.counters.connects += 1
        self.breaker.probed()

    def _could_not_connect(self, error: Exception) -> None:
        self.counters.connect_failures += 1
        if self._last_error is None or str(self._last_error) != str(error):
            logger.warning("cannot connect to redis: %s: %s", type(error).__name__, error)
        self._last_error = error
        if is_permanent(error):
            self._queue.fail_pending(error)
        elif not self._waits_for_server:
            not_sent = NotSent("the server cannot be reached")
            not_sent.__cause__ = error
            self._queue.fail_pending(not_sent)

    def _recover(self, connection: PipelineConnection) -> None:
        """The connection is lost: what may be sent twice is sent again, the rest is told that it may have run."""
        if self._connection is connection:
            self._connection = None
            self.counters.breaks += 1
        text = "the client is closed" if self.closed else "the connection was lost before the reply came"
        error = RedisConnectionError(f"{text}; the command may have run")
        error.__cause__ = self._last_error
        self.counters.repeats += self._queue.send_again(connection.unanswered(), error)
        self._wake.set()

    async def _watch(self) -> None:
        """Ends the waits that are over, and drops a connection that has fallen silent."""
        loop = asyncio.get_running_loop()
        while True:
            await self._waiting.wait()
            due = loop.time() + WATCH_SECONDS
            await asyncio.sleep(WATCH_SECONDS)
            late = loop.time() - due
            if late > STALL_SECONDS:
                self._excuse(late)
            for _ in range(3):
                await asyncio.sleep(0)  # what is readable is parsed first
            self._expire(loop.time() + WATCH_SECONDS)
            if not self._under_way():
                self._waiting.clear()

    def _excuse(self, late: float) -> None:
        """The loop stood still, not Redis: everyone's clock did too, and nobody could have been answered."""
        self.counters.stalls += 1
        if self._connection is not None:
            self._connection.heard_at += late
        for command in self._under_way():
            command.deadline += late

    def _expire(self, now: float) -> None:
        expired = [command for command in self._under_way() if command.deadline <= now and not command.future.done()]
        error = None
        for command in expired:
            self.counters.timeouts += 1
            error = RedisTimeoutError("no answer from Redis in time")
            error.__cause__ = command.refused or self._last_error
            command.answer(error)
        connection = self._connection
        if connection is None:
            self._queue.forget_unwanted()
        silent_for = connection.silent_seconds(now) if connection else 0.0
        if expired and (connection is None or silent_for > WATCH_SECONDS):
            self.breaker.failed(error)
        if connection is not None and silent_for > self._silence_seconds:
            self._silence_seconds = min(LONGEST_SILENCE_SECONDS, 2 * self._silence_seconds)
            connection.drop()
        elif connection is not None and connection.has_replied:
            self._silence_seconds = SILENCE_SECONDS

    def _under_way(self) -> list[Command]:
        return [*(self._connection.unanswered() if self._connection else ()), *self._queue.pending]
