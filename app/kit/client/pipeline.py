"""The automatic pipeline: commands that any coroutine issues in one tick of the loop share one write and one read.

One connection carries them; replies come in the order of the commands (Redis' pipelining), so the n-th reply is
the n-th command's. The reply to a cancelled caller is read and dropped.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import asdict
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.aio import Backoff, end_tasks
from app.kit.client.breaker import Breaker
from app.kit.client.connection import PipelineConnection, PipelineState
from app.kit.client.deadline import Deadline
from app.kit.client.errors import CircuitOpen, NotSent, is_permanent
from app.kit.client.pending import Command, Counters, Encodable, pack
from app.kit.client.watchdog import WATCH_SECONDS, Watchdog

logger = logging.getLogger(__name__)

RECONNECT_FIRST_SECONDS = 0.02
RECONNECT_LONGEST_SECONDS = 0.5


class Pipeline:
    """The pipeline of one server, over one connection, which is replaced when it is lost.

    `make_connection` gives an unconnected redis-py connection. A command waits at most for the budget of the running
    work (app.kit.client.deadline), or `timeout_seconds` where it has none. While the server cannot be reached commands
    wait for it until then, or, where `waits_for_server` is off (a cluster's node), fail with NotSent.
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
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.breaker = Breaker()
        self.counters = Counters()
        self._reset()

    def _reset(self) -> None:
        self._state = PipelineState()
        self._watchdog = Watchdog(self._state, breaker=self.breaker, counters=self.counters)

    @property
    def connected(self) -> bool:
        return self._state.connection is not None

    async def execute(self, args: Sequence[Encodable], *, repeatable: bool) -> Any:
        """The raw reply. Raises the server's error reply (ResponseError), or that the server is unreachable.

        `repeatable`: sending the command again after its reply was lost does no harm.
        """
        with Deadline(self._timeout_seconds) as deadline:
            self.check_breaker(deadline)
            return await self.send(args, repeatable=repeatable, deadline=deadline.at)

    def check_breaker(self, deadline: Deadline) -> None:
        """CircuitOpen where the running work has no time for a server that does not answer."""
        try:
            deadline.check(self.breaker)
        except CircuitOpen:
            self.counters.refused += 1
            raise

    def send(
        self, args: Sequence[Encodable], *, repeatable: bool, deadline: float, asking: bool = False
    ) -> asyncio.Future[Any]:
        """execute() without the accounting of a Deadline: `deadline` is in the loop's time.

        `asking` sends ASKING right before the command, as a cluster's ASK redirection requires.
        """
        if self._closed:
            raise RedisConnectionError("the client is closed")
        loop = asyncio.get_running_loop()
        self._keep_running(loop)
        wire, replies = (pack(["ASKING"]) + pack(args), 2) if asking else (pack(args), 1)
        future: asyncio.Future[Any] = loop.create_future()
        command = Command(wire, future, deadline, repeatable=repeatable, name=args[0], replies=replies)
        self._state.queue.pending.append(command)
        self._wake.set()
        self._state.busy.set()
        return future

    def _keep_running(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start at the first command, and again where a loop that ends has cancelled all tasks but the callers."""
        if self._loop is not loop:
            # The commands of an earlier loop ended with it.
            self._loop, self._tasks = loop, []
            self._reset()
        if not self._tasks or self._has_ended():
            self._wake = asyncio.Event()
            # A context of their own: the budget or the request of the first caller must not live on in them.
            runs = (self._run(), self._watchdog.run())
            self._tasks = [loop.create_task(run, context=Context()) for run in runs]

    def _has_ended(self) -> bool:
        # A loop: each command asks, and a generator would cost more than the question.
        for task in self._tasks:  # noqa: SIM110
            if task.done() or task.cancelling():
                return True
        return False

    async def retire(self) -> None:
        """Close when no command is under way any more; what has not been sent fails with NotSent."""
        self._waits_for_server = False
        self._state.queue.fail_pending(NotSent("the server has left"))
        try:
            while self._state.under_way():  # noqa: ASYNC110  each wait has its deadline, so this ends
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Disconnect for good. Commands that still wait get an error."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            try:
                await end_tasks(self._tasks)
            finally:
                self._state.queue.fail_pending(RedisConnectionError("the client is closed"))

    def stats(self) -> dict[str, Any]:
        """State and counters, for metrics and health."""
        state = {"connected": self.connected, "breaker": self.breaker.state, "opened": self.breaker.opened}
        return state | asdict(self.counters)

    async def _run(self) -> None:
        """Connect, serve until the connection breaks, and again. Connecting is the probe of a server that is down."""
        backoff = Backoff(first_seconds=RECONNECT_FIRST_SECONDS, longest_seconds=RECONNECT_LONGEST_SECONDS)
        while True:
            replies = self.counters.replies
            try:
                failed = await self._connect_and_serve()
            except Exception as error:
                # Any error at all: without this task no command would ever be sent again.
                self._could_not_connect(error)
                failed = True
            if failed:
                self.breaker.failed(self._state.error)
            # A server that accepts connections but answers no command is no better than one that refuses them.
            if not failed or self.counters.replies > replies:
                backoff.reset()
            await backoff.wait()

    async def _connect_and_serve(self) -> bool:
        """Raises where no connection is made. Returns whether a command was left without its reply."""
        raw = self._make_connection()
        # The deadlines are the commands' own. redis-py would wrap each write in asyncio.wait_for, which on
        # Python 3.11 can lose a cancellation.
        raw.socket_timeout = None
        connection = PipelineConnection(
            raw, self._state.queue, wake=self._wake, breaker=self.breaker, counters=self.counters
        )
        try:
            # A cluster's node may be a replica: its MOVED names the primary.
            await connection.connect(must_be_primary=self._waits_for_server)
            self._has_connected(connection)
            self._state.error = await connection.serve()
            return bool(connection.unanswered())
        finally:
            self._recover(connection)
            await connection.close()

    def _has_connected(self, connection: PipelineConnection) -> None:
        self._state.connection, self._state.error = connection, None
        self.counters.connects += 1
        self.breaker.probed()

    def _could_not_connect(self, error: Exception) -> None:
        self.counters.connect_failures += 1
        permanent = is_permanent(error)
        if self._state.error is None or str(self._state.error) != str(error):
            level = logging.ERROR if permanent else logging.WARNING
            logger.log(level, "cannot connect to redis: %s: %s", type(error).__name__, error)
        self._state.error = error
        if permanent:
            self._state.queue.fail_pending(error)
        elif not self._waits_for_server:
            not_sent = NotSent("the server cannot be reached")
            not_sent.__cause__ = error
            self._state.queue.fail_pending(not_sent)

    def _recover(self, connection: PipelineConnection) -> None:
        """The connection is lost: what may be sent twice is sent again, the rest fails, as it may have run."""
        if self._state.connection is connection:
            self._state.connection = None
            self.counters.breaks += 1
        text = "the client is closed" if self._closed else "the connection was lost before the reply came"
        error = RedisConnectionError(f"{text}; the command may have run")
        error.__cause__ = self._state.error
        self.counters.repeats += self._state.queue.send_again(connection.unanswered(), error)
        self._wake.set()
