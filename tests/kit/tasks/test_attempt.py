"""How long an attempt may take: pauses, and the timer that all attempts share."""

import asyncio

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
