"""How long an attempt may take: pauses, and the timer that all attempts share."""

import asyncio
import time

import pytest

from app.kit.tasks.attempt import Attempt, Deadlines, TimedOut


async def test_pauses_that_overlap_count_once() -> None:
    """As those of a coroutine whose parts wait for child processes side by side."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    with Attempt(deadlines, 60) as attempt:
        before, began = attempt.deadline, loop.time()
        with attempt.paused():
            with attempt.paused():
                await asyncio.sleep(0.01)
            assert not deadlines.has(attempt)
            await asyncio.sleep(0.01)
        assert deadlines.has(attempt)
        assert before < attempt.deadline <= before + loop.time() - began
    assert not deadlines.has(attempt)
    deadlines.close()


async def test_each_attempt_ends_at_its_own_deadline() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    async def attempt(name: str, seconds: float) -> None:
        with pytest.raises(TimedOut), Attempt(deadlines, seconds):
            await asyncio.Event().wait()
        ended.append(name)

    await asyncio.gather(attempt("late", 0.06), attempt("early", 0.02), attempt("between", 0.04))
    assert ended == ["early", "between", "late"]


async def test_an_attempt_is_not_silent_while_the_loop_is_blocked() -> None:
    deadlines = Deadlines()

    async def attempt(beats: int) -> None:
        with Attempt(deadlines, None, heartbeat_seconds=0.3) as attempt:
            for _ in range(beats):
                attempt.beat()
                await asyncio.sleep(0.02)
            await asyncio.sleep(60 if beats == 0 else 0)

    alive, silent = asyncio.create_task(attempt(10)), asyncio.create_task(attempt(0))
    await asyncio.sleep(0.05)
    time.sleep(0.5)  # noqa: ASYNC251  that is what is tested
    await alive
    with pytest.raises(TimedOut, match="no heartbeat"):
        await silent
    deadlines.close()
