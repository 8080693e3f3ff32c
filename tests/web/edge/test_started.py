"""Coroutines that are started at once, and wait side by side in the task of the request."""

import asyncio

import pytest

from app.web.edge.early import Started


async def test_started_coroutines_wait_side_by_side_in_one_task() -> None:
    order: list[str] = []

    async def step(name: str, gate: asyncio.Event) -> str:
        order.append(f"{name} began")
        await gate.wait()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        return name

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("late")

    async def fail_at_once() -> None:
        raise KeyError("at once")

    task, gate = asyncio.current_task(), asyncio.Event()
    one, two, three, four = (
        Started(step("one", gate)),
        Started(step("two", gate)),
        Started(fail()),
        Started(fail_at_once()),
    )
    assert order == ["one began", "two began"]
    asyncio.get_running_loop().call_soon(gate.set)
    assert (await two, await one) == ("two", "one")
    for each, text in ((three, "late"), (four, "at once")):
        with pytest.raises(KeyError, match=text):
            await each


async def test_a_started_coroutine_is_cancelled_with_its_task() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def run() -> None:
        await Started(wait())

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


@pytest.mark.parametrize("cleans_up", [False, True])
async def test_what_was_started_can_be_ended_at_any_wait(cleans_up: bool) -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def wait() -> None:
        try:
            await gate.wait()
        finally:
            if cleans_up:
                await asyncio.sleep(0)
            ended.append("waited")

    async def fail() -> None:
        raise KeyError("at once")

    async def answer() -> str:
        return "answer"

    waiting, failing, answering = Started(wait()), Started(fail()), Started(answer())
    for each in (waiting, failing, answering):
        await each.end()
    assert ended == ["waited"]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(KeyError):
        await failing
    assert await answering == "answer"
