"""Submitter: what several coroutines enqueue in one tick of the loop travels in one script."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.kit.client.deadline import Budget, running_budget
from app.kit.keys import digest
from app.kit.scripts import Argument
from app.kit.tasks.model import Call

# Tasks in one script call: it keeps the server busy for no more than a few milliseconds.
SUBMIT_BATCH = 500

# What tasks/enqueue says of one call: id, status, state, position.
Answer = tuple[bytes, bytes, bytes, int]


class Submitter:
    """`run` runs tasks/enqueue. Calls share a script only where they share the budget of their work.

    A caller that is cancelled takes nothing from the others, and its tasks may be accepted.
    """

    def __init__(self, run: Callable[..., Awaitable[Any]], *, keep_aborted_ms: int) -> None:
        self._run = run
        self._keep_aborted_ms = keep_aborted_ms
        self._waiting: dict[Budget | None, list[tuple[Call, asyncio.Future[Answer]]]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def submit(self, calls: Sequence[Call]) -> list[Answer]:
        if len(calls) == 1:
            return [await self._submit_one(calls[0])]
        answers: list[Answer] = []
        for start in range(0, len(calls), SUBMIT_BATCH):
            answers += await self._send(calls[start : start + SUBMIT_BATCH])
        return answers

    def _submit_one(self, call: Call) -> asyncio.Future[Answer]:
        loop, key = asyncio.get_running_loop(), running_budget()
        future: asyncio.Future[Answer] = loop.create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append((call, future))
        if len(waiting) == 1:
            # In the context of this caller, and so within the budget that all of them share.
            loop.call_soon(self._start, key)
        return future

    def _start(self, key: Budget | None) -> None:
        waiting = self._waiting.pop(key)
        for start in range(0, len(waiting), SUBMIT_BATCH):
            task = asyncio.get_running_loop().create_task(self._answer(waiting[start : start + SUBMIT_BATCH]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _answer(self, waiting: Sequence[tuple[Call, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send([call for call, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), answer in zip(waiting, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _send(self, calls: Sequence[Call]) -> list[Answer]:
        arguments = [argument for call in calls for argument in _arguments(call)]
        # A restart that is repeated could start again what has ended meanwhile.
        repeatable = not any(call.restart for call in calls)
        reply = await self._run("tasks/enqueue", self._keep_aborted_ms, *arguments, repeatable=repeatable)
        return [(reply[at], reply[at + 1], reply[at + 2], reply[at + 3]) for at in range(0, len(reply), 4)]


def _arguments(call: Call) -> tuple[Argument, ...]:
    return (
        call.id,
        call.name,
        call.payload,
        call.priority,
        round(call.delay_seconds * 1000),
        round(call.at * 1000),
        "" if call.unique is None else digest(f"{call.name}:{call.unique}"),
        call.encoded_options(),
        call.encoded_expiry(),
        call.parent or "",
        f"{'r' if call.restart else ''}{'p' if call.takes_result else ''}",
    )
