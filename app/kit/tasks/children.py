"""ChildPool: runs functions in child processes, each in a process group of its own."""

import asyncio
import json
import logging
import os
import pickle
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.kit.tasks.attempt import Attempt
from app.kit.tasks.child import LENGTH, READY, ChildLog, ChildReply, ChildRequest
from app.kit.tasks.model import Claim
from app.kit.tracing import trace_id_of

_START = (
    "import json, sys; descriptor, sys.path[:], main_path, sys.argv[:] = map(json.loads, sys.argv[1:]); "
    "from app.kit.tasks.child import serve_child; serve_child(descriptor, main_path)"
)
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s [task:%(task_id)s] %(message)s"
START_ATTEMPTS = 3
START_SECONDS = 30.0


class ChildFailed(Exception):
    """The error of a function in a child process, as text: not every exception can be pickled."""


class _ChildDied(Exception):
    pass


@dataclass(slots=True)
class _Child:
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self) -> bytes:
        """The next message. _ChildDied: the child ended first; one that it has started may hold the socket open."""
        receiving = asyncio.ensure_future(self._receive())
        ending = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait([receiving, ending], return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                await asyncio.wait([receiving], timeout=0.1)
            if receiving.done() and receiving.exception() is None:
                return receiving.result()
            raise _ChildDied(await self._reason())
        finally:
            receiving.cancel()
            ending.cancel()

    async def _receive(self) -> bytes:
        head = await self.reader.readexactly(LENGTH.size)
        return await self.reader.readexactly(LENGTH.unpack(head)[0])

    async def _reason(self) -> str:
        await self.kill()
        code = self.process.returncode or 0
        return f"the child process ended by signal {-code}" if code < 0 else f"the child process ended with {code}"

    async def kill(self) -> None:
        """End it and all that it has started. Once it has ended, its id may be that of another group."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    # It has no process groups.
                    self.process.kill()
                else:
                    os.killpg(self.process.pid, signal.SIGKILL)
        self.writer.close()
        await self.process.wait()


class ChildPool:
    """At most `size` functions run at once. A child serves one function after the other, until it is killed."""

    def __init__(self, size: int, formatter: logging.Formatter | None = None) -> None:
        """`formatter`: of what the children log; it can be pickled. By default lines of text with the task's id."""
        self._formatter = formatter or logging.Formatter(_LOG_FORMAT)
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._killing: set[asyncio.Future[None]] = set()

    async def call(self, attempt: Attempt, claim: Claim, function: Callable[..., Any], *args: Any) -> Any:
        """The result of `function(*args)`, or what it raises; both, the function and the arguments, are pickled."""
        return await self._run(attempt, self._request(claim, "", pickle.dumps(function), *args))

    async def call_task(self, attempt: Attempt, claim: Claim, module: str, qualname: str) -> Any:
        """The result of Task.run_in_child() of the task of this name, on the claim's payload: JSON."""
        return await self._run(attempt, self._request(claim, module, qualname, claim.payload))

    async def close(self) -> None:
        """Kill the children that are idle; those that work are killed where their functions are cancelled."""
        while self._idle:
            await self._idle.pop().kill()
        if self._killing:
            await asyncio.wait(self._killing)

    def _request(self, claim: Claim, module: str, function: str | bytes, *args: Any) -> ChildRequest:
        fields = {"task_id": claim.id, "request_id": claim.options.correlation_id}
        fields |= {"trace_id": trace_id_of(claim.options.traceparent)}
        log = ChildLog(logging.getLogger().getEffectiveLevel(), self._formatter, fields)
        return ChildRequest(log, module, function, pickle.dumps(args))

    async def _run(self, attempt: Attempt, request: ChildRequest) -> Any:
        with attempt.paused():
            await self._slots.acquire()
        try:
            with attempt.paused():
                child = await self._take()
            reply = await self._exchange(child, request)
        finally:
            self._slots.release()
        if reply.value is not None:
            return pickle.loads(reply.value)  # noqa: S301  the child's own
        raise _error_of(reply)

    async def _exchange(self, child: _Child, request: ChildRequest) -> ChildReply:
        message = pickle.dumps(request)
        try:
            child.writer.write(LENGTH.pack(len(message)) + message)
            reply: ChildReply = pickle.loads(await child.receive())  # noqa: S301  the child's own
        except _ChildDied as error:
            raise ChildFailed(str(error)) from None
        except BaseException:
            # A cancelled caller is not delayed by the end of the child.
            killing = asyncio.ensure_future(child.kill())
            self._killing.add(killing)
            killing.add_done_callback(self._killing.discard)
            raise
        self._idle.append(child)
        return reply

    async def _take(self) -> _Child:
        """An idle child, or a new one. What ends a child before it is ready is not its function's failure."""
        while self._idle:
            child = self._idle.pop()
            if child.process.returncode is None:
                return child
            await child.kill()
        for attempts_left in reversed(range(START_ATTEMPTS)):
            child = await _start()
            try:
                async with asyncio.timeout(START_SECONDS):
                    if await child.receive() == READY:
                        return child
            except (_ChildDied, TimeoutError) as error:
                if not attempts_left:
                    raise ChildFailed(f"no child process could be started: {error}") from error
            except BaseException:
                await child.kill()
                raise
            await child.kill()
        raise ChildFailed("no child process could be started")


async def _start() -> _Child:
    ours, theirs = socket.socketpair()
    try:
        main_path = getattr(sys.modules["__main__"], "__file__", None)
        # The worker's own arguments too: its main module may read them where it is loaded again.
        arguments = [json.dumps(value) for value in (theirs.fileno(), sys.path, main_path, sys.argv)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _START, *arguments, stdin=DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    return _Child(process, reader, writer)


def _error_of(reply: ChildReply) -> BaseException:
    error: BaseException = ChildFailed(reply.text)
    if reply.error is not None:
        with suppress(Exception):
            error = pickle.loads(reply.error)  # noqa: S301  the child's own
    error.add_note(f"In the child process:\n{reply.trace}")
    return error
