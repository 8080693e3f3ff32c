"""A primary that dies under its sentinels, and a cluster whose slots move, both under load."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster as PlainCluster
from redis.crc import key_slot

from app.kit.budget import budget
from app.kit.client import Unreachable, connect
from app.kit.keys import Keys
from app.kit.scripts import run_script
from tests.deployments import RedisCluster, SentinelDeployment, redis_cli
from tests.faults.load import BUDGET_SECONDS, Load
from tests.waiting import eventually

pytestmark = pytest.mark.server

# A failover: the sentinels' silence of a second, their vote, the promotion; then ours.
FAILOVER_SECONDS = 15


@pytest.fixture
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelDeployment]:
    deployment = SentinelDeployment(tmp_path_factory.mktemp("sentinel"), sentinel_password="watching")
    yield deployment.start()
    deployment.stop()


async def test_writes_go_on_at_the_new_primary(sentinels: SentinelDeployment, keys: Keys) -> None:
    redis = connect(sentinels.url, name="sentinel", timeout_seconds=5)
    loop = asyncio.get_running_loop()
    async with Load(redis, keys.views()) as load:
        await eventually(lambda: load.answered > 1000)
        sentinels.primary.kill()
        await eventually(lambda: "role:master" in redis_cli(sentinels.replica.port, "info", "replication"), seconds=30)
        promoted = loop.time()

        async def written() -> bool:
            try:
                with budget(BUDGET_SECONDS):
                    return bool(await redis.set(keys.views(), "new"))
            except Unreachable:
                return False

        await eventually(written, seconds=FAILOVER_SECONDS)
        waited = loop.time() - promoted
    assert waited < 2
    assert load.wrong == 0
    assert redis_cli(sentinels.replica.port, "get", keys.views()) == "new"
    await redis.aclose()


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster.start()
    cluster.stop()


@pytest.fixture
async def client(own_cluster: RedisCluster) -> AsyncIterator[Redis]:
    redis = connect(own_cluster.url, name="cluster", timeout_seconds=10)
    yield redis
    await redis.aclose()


async def move_slot(cluster: RedisCluster, slot: int, *, source: int, target: int, pause: asyncio.Event) -> None:
    """Migrate a slot key by key, as `redis-cli --cluster reshard` does, so that it answers ASK and TRYAGAIN."""
    nodes = [(Redis(port=node.port), redis_cli(node.port, "cluster", "myid")) for node in cluster.nodes]
    (from_node, source_id), (to_node, target_id) = nodes[source], nodes[target]
    await to_node.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await from_node.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := await from_node.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3):
        port = cluster.nodes[target].port
        await from_node.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        pause.set()
        await asyncio.sleep(0.002)
    for node, _ in nodes:
        await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        await node.aclose()


async def test_a_slot_that_moves_under_load_loses_nothing(own_cluster: RedisCluster, client: Redis, keys: Keys) -> None:
    """Counters of one slot are raised, alone and two at a time by a script, while the slot moves to and fro."""
    names = [f"{{{keys.namespace}}}:{number}" for number in range(40)]
    raised = dict.fromkeys(names, 0)
    both = "redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])"
    moving, moved = asyncio.Event(), False

    async def raise_counters(number: int) -> None:
        for turn in itertools.count():
            first, second = names[(number + turn) % 40], names[(number * 7 + turn * 3 + 1) % 40]
            await client.incr(first)
            raised[first] += 1
            if first != second:
                await client.eval(both, 2, first, second)
                raised[first] += 1
                raised[second] += 1
            if moved:
                return

    callers = [asyncio.create_task(raise_counters(number)) for number in range(16)]
    await eventually(lambda: min(raised.values()) > 3)
    slot = key_slot(keys.namespace.encode())
    source = slot // 5462
    other = (source + 1) % 3
    await move_slot(own_cluster, slot, source=source, target=other, pause=moving)
    await move_slot(own_cluster, slot, source=other, target=source, pause=moving)
    moved = True
    await asyncio.gather(*callers)
    assert moving.is_set()
    found = await asyncio.gather(*(client.get(name) for name in names))
    assert [int(value or 0) for value in found] == list(raised.values())


async def test_a_node_that_dies_and_returns(own_cluster: RedisCluster, client: Redis) -> None:
    keys = Keys("b")
    await client.config_set("cluster-require-full-coverage", "no", target_nodes=PlainCluster.ALL_NODES)
    async with Load(client, keys.views()) as load:
        await eventually(lambda: load.answered > 500)
        tag = keys.views().partition("{")[2].partition("}")[0]
        slot = key_slot(tag.encode())
        node = own_cluster.nodes[slot // 5462]
        node.kill()
        await eventually(lambda: sum(load.errors.values()) > 50)
        node.start()
        answered = load.answered
        await eventually(lambda: load.answered > answered + 500, seconds=FAILOVER_SECONDS)
    assert load.wrong == 0
    assert await run_script(client, "noop", keys=[keys.views()], args=["back"]) == b"back"
