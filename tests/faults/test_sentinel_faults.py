"""A primary that dies, and sentinels that hang, lie or refuse: writes go on at the server that most of them name."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.client.deadline import budget
from app.kit.client.errors import UNAVAILABLE
from app.kit.keys import Keys
from tests.deployments import SentinelDeployment, redis_cli
from tests.fake_redis import Answer, array, bulk, fake_redis
from tests.faults.load import BUDGET_SECONDS, SLACK_SECONDS, Load
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server

# What the client may add to the sentinels' own time: their silence of a second, their vote, the promotion.
FAILOVER_SECONDS = 2


@pytest.fixture
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelDeployment]:
    deployment = SentinelDeployment(tmp_path_factory.mktemp("sentinel"), sentinel_password="watching")
    yield deployment.start()
    deployment.stop()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    redis = connect(url, name="sentinel", timeout_seconds=5)
    try:
        yield redis
    finally:
        await redis.aclose()


def is_primary(server: RedisServer) -> bool:
    """Asked in vain where sentinels end the connections of a server whose role they change."""
    try:
        return "role:master" in redis_cli(server.port, "info", "replication")
    except subprocess.CalledProcessError:
        return False


async def fail_over(sentinels: SentinelDeployment, redis: Redis, keys: Keys) -> None:
    """Kill the primary under load, and see writes go on at the replica."""
    loop = asyncio.get_running_loop()
    async with Load(redis, keys.own("test")) as load:
        await eventually(lambda: load.answered > 1000)
        sentinels.primary.kill()
        await eventually(lambda: is_primary(sentinels.replica), seconds=30)
        promoted = loop.time()

        async def written() -> bool:
            try:
                with budget(BUDGET_SECONDS):
                    return bool(await redis.set(keys.own("test"), "new"))
            except UNAVAILABLE:
                return False

        await eventually(written, seconds=15)
        waited = loop.time() - promoted
    assert waited < FAILOVER_SECONDS
    assert load.wrong == 0
    assert load.longest_seconds < BUDGET_SECONDS + SLACK_SECONDS
    assert redis_cli(sentinels.replica.port, "get", keys.own("test")) == "new"


async def test_writes_go_on_at_the_new_primary(sentinels: SentinelDeployment, keys: Keys) -> None:
    async with connected(sentinels.url) as redis:
        await fail_over(sentinels, redis, keys)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "is dead"])
async def test_a_sentinel_that_fails_delays_no_failover(
    sentinels: SentinelDeployment, keys: Keys, how: signal.Signals
) -> None:
    """It is the first of the URL, and fails before anybody has asked it, or while its connection is open."""
    async with connected(sentinels.url) as early:
        await early.ping()
        sentinels.sentinels[0].send_signal(how)
        async with connected(sentinels.url) as late:
            with budget(BUDGET_SECONDS + SLACK_SECONDS):
                await late.ping()
        await fail_over(sentinels, early, keys)


def sentinel(name: str, port: int, *, epoch: int, flags: str = "master") -> Answer:
    """A sentinel that says that the primary is at `port`."""
    state = {"name": name, "ip": "127.0.0.1", "port": port, "flags": flags, "config-epoch": epoch}
    told = array(*(bulk(str(part)) for pair in {**state, "num-other-sentinels": 2}.items() for part in pair))
    return lambda words: array(told.replace(b"*12", b"%6", 1))


async def test_of_a_majority_the_newest_word_counts(redis_server: RedisServer) -> None:
    """One sentinel, cut off during the failover, still names the server of before."""
    gone = 1
    answers = [
        sentinel("main", gone, epoch=1),
        sentinel("main", redis_server.port, epoch=2),
        sentinel("main", redis_server.port, epoch=2),
    ]
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(fake_redis(answer)) for answer in answers]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        redis = await stack.enter_async_context(connected(f"redis+sentinel://{hosts}/main/0"))
        assert await redis.ping()


async def test_a_primary_that_is_down_is_not_named(redis_server: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        answer = sentinel("main", redis_server.port, epoch=1, flags="master,s_down")
        port = await stack.enter_async_context(fake_redis(answer))
        redis = await stack.enter_async_context(connected(f"redis+sentinel://127.0.0.1:{port}/main/0"))
        with budget(BUDGET_SECONDS), pytest.raises(UNAVAILABLE) as caught:
            await redis.ping()
    assert "none knows a primary" in str(caught.value.__cause__)


async def test_a_wrong_password_for_the_sentinels_is_said_at_once(sentinels: SentinelDeployment) -> None:
    async with connected(sentinels.url.replace("watching", "wrong")) as redis:
        with pytest.raises(UNAVAILABLE, match="sentinels answer") as caught:
            await redis.ping()
    assert "WRONGPASS" in str(caught.value.__cause__) or "invalid username-password" in str(caught.value.__cause__)
