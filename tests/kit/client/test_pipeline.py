"""Random interleavings of commands, errors and cancellations: each caller gets its own answer, none hangs."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.scripts import run_script
from tests.services import RedisServer

pytestmark = pytest.mark.server

# What a caller that hangs would exceed on any machine.
HANG_SECONDS = 30


@dataclass(frozen=True)
class Step:
    """A caller: what it asks, after how many ticks it starts, and after how many more it is cancelled."""

    kind: str
    start: int
    cancel: int | None


steps = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["echo", "large", "script", "wrong type", "unknown", "no script", "block", "invalid"]),
        start=st.integers(0, 4),
        cancel=st.none() | st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


async def ask(redis: Redis, keys: Keys, step: Step, number: int) -> None:
    """Ask, and check that the answer belongs to the question."""
    mine = f"{number}:{step}".encode()
    match step.kind:
        case "echo":
            assert await redis.execute_command("ECHO", mine) == mine
        case "large":
            assert await redis.execute_command("ECHO", mine * 2000) == mine * 2000
        case "script":
            assert await run_script(redis, "client/noop", keys=[keys.own("test")], args=[mine]) == mine
        case "wrong type":
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await redis.incr(keys.task_prefix("list"))
        case "unknown":
            with pytest.raises(ResponseError, match="unknown command"):
                await redis.execute_command(f"NOSUCH{number}")
        case "no script":
            with pytest.raises(NoScriptError):
                await redis.evalsha(f"{number:040}", 0)
        case "block":
            assert await redis.blmove(keys.task_prefix("list"), keys.task_prefix("list"), timeout=1) == b"x"
        case "invalid":
            with pytest.raises(Exception, match="Redis takes"):
                await redis.set("key", [number])  # type: ignore[arg-type]


async def caller(redis: Redis, keys: Keys, step: Step, number: int) -> None:
    for _ in range(step.start):
        await asyncio.sleep(0)
    asking = asyncio.create_task(ask(redis, keys, step, number))
    if step.cancel is not None:
        for _ in range(step.cancel):
            await asyncio.sleep(0)
        asking.cancel()
    try:
        await asking
    except asyncio.CancelledError:
        assert step.cancel is not None


def interleave(server: RedisServer, *, examples: int) -> None:
    runner = asyncio.Runner()
    redis = connect(server.url, name="interleavings", timeout_seconds=HANG_SECONDS)
    keys = Keys("interleavings")

    async def round_of(plan: list[Step]) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(*(caller(redis, keys, step, number) for number, step in enumerate(plan)))
            assert await redis.execute_command("ECHO", "end") == b"end"

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(steps)
    def check(plan: list[Step]) -> None:
        runner.run(round_of(plan))

    with runner:
        runner.run(_prepare(redis, keys))
        check()
        runner.run(redis.aclose())


async def _prepare(redis: Redis, keys: Keys) -> None:
    await redis.delete(keys.task_prefix("list"))
    await redis.rpush(keys.task_prefix("list"), "x")


def test_a_thousand_interleavings(redis_server: RedisServer) -> None:
    interleave(redis_server, examples=1000)


@pytest.mark.long
def test_ten_thousand_interleavings(redis_server: RedisServer) -> None:
    interleave(redis_server, examples=10_000)
