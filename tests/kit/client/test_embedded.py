"""The embedded store is cancelled as a server is."""

import asyncio

import pytest

from app.kit.client.embedded import EmbeddedRedis


@pytest.mark.parametrize("turns_before_the_push", range(0, 20, 4))
async def test_a_command_whose_response_comes_as_it_is_cancelled_is_cancelled(turns_before_the_push: int) -> None:
    redis = EmbeddedRedis(name="test")

    async def pop_for_ever() -> None:
        while True:
            await redis.blpop(["list"], timeout=60)

    for turns_before_the_end in range(10):
        task = asyncio.create_task(pop_for_ever())
        for _ in range(turns_before_the_push):
            await asyncio.sleep(0)
        push = asyncio.ensure_future(redis.lpush("list", 1))
        for _ in range(turns_before_the_end):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([task])
        assert task.cancelled()
        await push
        await redis.delete("list")
    await redis.aclose()
