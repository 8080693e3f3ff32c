"""Backoff with jitter, and tasks side by side that have all ended when the block has."""

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import NoReturn

import pytest

from app.kit.aio import Backoff, Flag, backoff_seconds, finished, first_of, side_by_side


def test_the_delay_doubles_up_to_its_bound_and_is_random() -> None:
    for attempt in range(1, 100):
        drawn = [backoff_seconds(attempt, first_seconds=1, longest_seconds=16) for _ in range(50)]
        ceiling = min(16, 2 ** (attempt - 1))
        assert 0 <= min(drawn) <= max(drawn) <= ceiling
        assert len(set(drawn)) > 1


async def test_a_success_makes_the_next_delay_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    backoff = Backoff(first_seconds=1, longest_seconds=4)
    for _ in range(4):
        await backoff.wait()
    backoff.reset()
    await backoff.wait()
    assert slept == [1, 2, 4, 4, 1]


async def forever(ended: asyncio.Event) -> int:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()
    return 0


@pytest.mark.parametrize("leave", [None, ValueError("the block failed")])
async def test_what_runs_side_by_side_ends_with_the_block(leave: Exception | None) -> None:
    ended = asyncio.Event()

    async def answer() -> int:
        return 42

    async def enter() -> list[asyncio.Task[int]]:
        async with side_by_side(forever(ended), answer()) as tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [42]
            if leave is not None:
                raise leave
        return tasks

    if leave is None:
        assert all(task.done() for task in await enter())
    else:
        with pytest.raises(ValueError, match="the block failed"):
            await enter()
    assert ended.is_set()


async def test_what_a_task_raises_is_its_own() -> None:
    async def fail() -> NoReturn:
        raise ValueError("one failed")

    async with side_by_side(fail()) as [task]:
        await asyncio.wait([task])
    assert isinstance(task.exception(), ValueError)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_first_to_end_gives_its_result_or_its_error_and_the_others_have_ended(fails: bool) -> None:
    ended = asyncio.Event()

    async def answer() -> int:
        if fails:
            raise ValueError("it failed")
        return 42

    if fails:
        with pytest.raises(ValueError, match="it failed"):
            await first_of(forever(ended), answer())
    else:
        assert await first_of(forever(ended), answer()) == 42
    assert ended.is_set()


@pytest.mark.parametrize("failure", [None, ValueError("the work failed")])
async def test_work_is_finished_before_its_cancelled_caller_ends(failure: Exception | None) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> int:
        begun.set()
        await may_end.wait()
        ended.set()
        if failure:
            raise failure
        return 7

    caller = asyncio.create_task(finished(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_finished_work_gives_its_result_or_its_error() -> None:
    async def work(fails: bool) -> int:
        return 1 // (not fails)

    assert await finished(work(fails=False)) == 1
    with pytest.raises(ZeroDivisionError):
        await finished(work(fails=True))


async def test_a_flag_wakes_those_that_wait_and_forgets_those_that_are_cancelled() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    flag.set()
    assert flag.is_set()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, False, False]

    # Set: nobody waits. Cleared: they wait again.
    await flag.wait()
    flag.clear()
    again = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    assert not again.done()
    flag.set()
    await again


def test_a_flag_takes_a_quarter_of_an_event() -> None:
    assert 4 * allocated(Flag) < allocated(asyncio.Event)


def allocated(make: Callable[[], object]) -> int:
    """The bytes that one object takes with what it holds."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = make()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return after - before
