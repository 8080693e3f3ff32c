"""A cluster in part down, in motion, or at odds with itself: who is not concerned notices nothing, all waits end."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster as PlainCluster
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.client.connect import client_stats, connect
from app.kit.client.deadline import budget
from app.kit.client.errors import UNAVAILABLE, CircuitOpen
from app.kit.keys import Keys
from tests.deployments import RedisCluster, redis_cli
from tests.fake_redis import OK, Answer, Last, array, bulk, fake_redis
from tests.faults.load import BUDGET_SECONDS, SLACK_SECONDS, Load
from tests.scripts import echo
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server

RECOVERY_SECONDS = 2.0
FAILOVER_SECONDS = 15


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster.start()
    cluster.stop()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    redis = connect(url, name="cluster", timeout_seconds=10)
    try:
        yield redis
    finally:
        await redis.aclose()


@pytest.fixture
async def client(own_cluster: RedisCluster) -> AsyncIterator[Redis]:
    async with connected(own_cluster.url) as redis:
        # A node that is down takes only its own slots with it.
        await redis.config_set("cluster-require-full-coverage", "no", target_nodes=PlainCluster.ALL_NODES)
        yield redis


def keys_of(number: int) -> Keys:
    """A namespace whose keys of the name "test" lie on the node of this number."""
    spaces = (Keys(f"n{turn}") for turn in itertools.count())
    return next(keys for keys in spaces if _node_of(keys.own("test")) == number)


def _node_of(key: str) -> int:
    return key_slot(key.partition("{")[2].partition("}")[0].encode()) // 5462


async def move_slot(source: RedisServer, target: RedisServer, slot: int, *, pause: asyncio.Event) -> None:
    """Migrate a slot key by key, as `redis-cli --cluster reshard` does, so that it answers ASK and TRYAGAIN."""
    ids = [redis_cli(node.port, "cluster", "myid") for node in (source, target)]
    async with Redis(port=source.port) as from_node, Redis(port=target.port) as to_node:
        await to_node.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await from_node.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := await from_node.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3):
            await from_node.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            pause.set()
            await asyncio.sleep(0)
        for node in (to_node, from_node):
            await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


@asynccontextmanager
async def raising(client: Redis, names: list[str]) -> AsyncIterator[dict[str, int]]:
    """Counters of one slot are raised, alone and two at a time by a script; at the end each has what was counted."""
    raised = dict.fromkeys(names, 0)
    both = "redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])"
    done = False

    async def raise_counters(number: int) -> None:
        for turn in itertools.count():
            first, second = names[(number + turn) % len(names)], names[(number * 7 + turn * 3 + 1) % len(names)]
            await client.incr(first)
            raised[first] += 1
            if first != second:
                await client.eval(both, 2, first, second)
                raised[first] += 1
                raised[second] += 1
            if done:
                return

    async with asyncio.TaskGroup() as callers:
        for number in range(16):
            callers.create_task(raise_counters(number))
        await eventually(lambda: min(raised.values()) > 3)
        yield raised
        done = True
    found = await asyncio.gather(*(client.get(name) for name in names))
    assert [int(value or 0) for value in found] == list(raised.values())


async def test_a_slot_that_moves_under_load_loses_nothing(own_cluster: RedisCluster, client: Redis, keys: Keys) -> None:
    slot, moving = key_slot(keys.namespace.encode()), asyncio.Event()
    source = own_cluster.nodes[slot // 5462]
    other = own_cluster.nodes[(slot // 5462 + 1) % 3]
    async with raising(client, [f"{{{keys.namespace}}}:{number}" for number in range(40)]):
        await move_slot(source, other, slot, pause=moving)
        await move_slot(other, source, slot, pause=moving)
    assert moving.is_set()
    assert client_stats(client)["cluster"]["asks"] > 0


async def test_a_node_that_joins_takes_a_slot_and_leaves_again(
    own_cluster: RedisCluster, client: Redis, keys: Keys
) -> None:
    """While it imports its first slot, no map names it. Once it has left, nothing is kept of it."""
    slot, moving = key_slot(keys.namespace.encode()), asyncio.Event()
    source = own_cluster.nodes[slot // 5462]
    with own_cluster.joined() as newcomer:
        async with raising(client, [f"{{{keys.namespace}}}:{number}" for number in range(40)]):
            await move_slot(source, newcomer, slot, pause=moving)
            await eventually(lambda: f"127.0.0.1:{newcomer.port}" in client_stats(client))
            await move_slot(newcomer, source, slot, pause=moving)
            await eventually(lambda: f"127.0.0.1:{newcomer.port}" not in client_stats(client))
    assert set(client_stats(client)) == {"cluster", *(f"127.0.0.1:{node.port}" for node in own_cluster.nodes)}


async def test_a_node_that_hangs_delays_only_what_it_holds(own_cluster: RedisCluster, client: Redis) -> None:
    async with Load(client, keys_of(0).own("test")) as hung, Load(client, keys_of(1).own("test")) as healthy:
        await eventually(lambda: min(hung.answered, healthy.answered) > 500)
        own_cluster.nodes[0].signal(signal.SIGSTOP)
        await eventually(lambda: hung.errors["CircuitOpen"] > 200)
        answered = healthy.answered
        await eventually(lambda: healthy.answered > answered + 2000)
        assert not healthy.errors
        own_cluster.nodes[0].signal(signal.SIGCONT)
        answered = hung.answered
        await eventually(lambda: hung.answered > answered + 500, seconds=RECOVERY_SECONDS)
    assert (hung.wrong, healthy.wrong) == (0, 0)
    assert max(hung.longest_seconds, healthy.longest_seconds) < BUDGET_SECONDS + SLACK_SECONDS


async def test_a_node_that_dies_and_returns(own_cluster: RedisCluster, client: Redis) -> None:
    keys = keys_of(2)
    async with Load(client, keys.own("test")) as load:
        await eventually(lambda: load.answered > 500)
        own_cluster.nodes[2].kill()
        await eventually(lambda: load.errors.total() > 50)
        own_cluster.nodes[2].start()
        answered = load.answered
        await eventually(lambda: load.answered > answered + 500, seconds=FAILOVER_SECONDS)
    assert load.wrong == 0
    assert await echo(client, f"{keys.own('test')}:back", "bac0") == "bac0"


def replication(node: RedisServer, field: str) -> str:
    lines = redis_cli(node.port, "info", "replication").splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{field}:"))


@pytest.mark.long
async def test_a_replica_takes_over_from_a_primary_that_dies(tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=1)
    keys = keys_of(0)
    try:
        cluster.start()
        async with connected(cluster.url) as redis, Load(redis, keys.own("test")) as load:
            await eventually(lambda: load.answered > 500)
            before = int(await redis.incr(keys.own("test") + ":counter"))
            primary = cluster.primary_of(keys.own("test"))
            offset = replication(primary, "master_repl_offset")
            await eventually(lambda: replication(primary, "slave0").rpartition("offset=")[2].split(",")[0] >= offset)
            primary.kill()
            await eventually(lambda: load.errors.total() > 10)
            answered = load.answered
            await eventually(lambda: load.answered > answered + 500, seconds=FAILOVER_SECONDS)
            assert await redis.incr(keys.own("test") + ":counter") == before + 1
        assert load.wrong == 0
        assert load.longest_seconds < BUDGET_SECONDS + SLACK_SECONDS
    finally:
        cluster.stop()


async def test_a_slot_that_nobody_has_is_said_at_once_and_waited_for_in_the_background(
    own_cluster: RedisCluster, client: Redis
) -> None:
    key = keys_of(0).own("test")
    slot = key_slot(key.partition("{")[2].partition("}")[0].encode())
    assert await client.set(key, "1")
    for node in own_cluster.nodes:
        redis_cli(node.port, "cluster", "delslots", str(slot))
    loop = asyncio.get_running_loop()
    for _ in range(20):
        began = loop.time()
        with budget(BUDGET_SECONDS), pytest.raises(ClusterDownError):
            await client.incr(key)
        assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
    waiting = asyncio.ensure_future(client.incr(key))
    await asyncio.sleep(0)
    redis_cli(own_cluster.nodes[0].port, "cluster", "addslots", str(slot))
    assert await waiting in {1, 2}


async def test_a_slot_without_an_owner_on_the_map_is_waited_for_in_the_background() -> None:
    maps, ports = 0, [0]

    def answer(words: list[bytes]) -> bytes:
        nonlocal maps
        if words[0] != b"CLUSTER":
            return b"+value\r\n"
        maps += 1
        # The slot of "key" is 12539.
        return map_of(ports[0], last=16383 if maps > 3 else 12538)

    async with fake_redis(answer) as ports[0], connected(f"redis+cluster://127.0.0.1:{ports[0]}") as redis:
        with budget(BUDGET_SECONDS), pytest.raises(ClusterDownError):
            await redis.get("key")
        assert await redis.get("key") == b"value"
    assert maps > 3


# With a key or without, to one node or to all, on the pipelines or on a connection of its own.
COMMANDS = [("GET", "key"), ("PING",), ("INFO",), ("DBSIZE",), ("SCRIPT EXISTS", "0" * 40), ("BLPOP", "list", "0.01")]


async def test_no_command_goes_past_the_budget(own_cluster: RedisCluster) -> None:
    loop = asyncio.get_running_loop()
    for command in COMMANDS:
        async with connected(own_cluster.url) as redis:
            await redis.execute_command(*command)
            for node in own_cluster.nodes:
                node.signal(signal.SIGSTOP)
            for _ in range(3):
                began = loop.time()
                with budget(BUDGET_SECONDS), pytest.raises(UNAVAILABLE):
                    await redis.execute_command(*command)
                assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS, command
            for node in own_cluster.nodes:
                node.signal(signal.SIGCONT)


async def answers(redis: Redis) -> bool:
    """Whether a request gets its answer within its budget."""
    with budget(BUDGET_SECONDS):
        try:
            return await redis.get("no such key") is None
        except UNAVAILABLE:
            return False


async def test_a_cluster_that_is_not_there_is_refused_at_once_after_a_while(own_cluster: RedisCluster) -> None:
    own_cluster.stop()
    async with connected(own_cluster.url) as redis:

        async def is_open() -> bool:
            with budget(BUDGET_SECONDS), pytest.raises(RedisError) as caught:
                await redis.get("key")
            return isinstance(caught.value, CircuitOpen)

        await eventually(is_open)
        assert client_stats(redis)["cluster"]["breaker"] == "open"
        for node in own_cluster.nodes:
            node.start()
        await eventually(lambda: answers(redis), seconds=FAILOVER_SECONDS)


def map_of(port: int, *, last: int = 16383) -> bytes:
    """CLUSTER SLOTS: those up to `last` at one node, the others nowhere."""
    place = array(bulk("127.0.0.1"), b":%d\r\n" % port, bulk("id"), array())
    return array(array(b":0\r\n", b":%d\r\n" % last, place))


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
async def test_nodes_that_send_a_command_about_are_not_asked_without_end(word: str) -> None:
    """Two nodes that name each other, as they may in the middle of a failover."""
    asked, ports = 0, [0, 0]

    def node(number: int) -> Answer:
        def answer(words: list[bytes]) -> bytes:
            nonlocal asked
            if words[0] == b"CLUSTER":
                return map_of(ports[0])
            if words[0] == b"ASKING":
                return OK
            asked += 1
            return f"-{word} 12539 127.0.0.1:{ports[1 - number]}\r\n".encode()

        return answer

    async with AsyncExitStack() as stack:
        for number in range(2):
            ports[number] = await stack.enter_async_context(fake_redis(node(number)))
        redis = await stack.enter_async_context(connected(f"redis+cluster://127.0.0.1:{ports[0]}"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        with budget(BUDGET_SECONDS), pytest.raises(RedisTimeoutError):
            await redis.get("key")
        assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
        assert 4 < asked < 100


async def test_a_slot_that_is_half_moved_is_asked_again() -> None:
    """TRYAGAIN: of the keys of a script some are there and some are not yet."""
    refusals, ports = [b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"] * 3, [0]

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"CLUSTER":
            return map_of(ports[0])
        return refusals.pop() if refusals else b":1\r\n"

    async with fake_redis(answer) as ports[0], connected(f"redis+cluster://127.0.0.1:{ports[0]}") as redis:
        assert await redis.exists("{tag}:one", "{tag}:two") == 1
    assert not refusals


async def test_what_may_not_run_twice_is_sent_once_on_any_way() -> None:
    """The reply of a blocking command, and of a write, is lost."""
    sent: list[bytes] = []
    ports = [0]

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"CLUSTER":
            return map_of(ports[0])
        if words[0] == b"COMMAND":
            return array()
        sent.append(words[0])
        return Last(b"")

    async with fake_redis(answer) as ports[0], connected(f"redis+cluster://127.0.0.1:{ports[0]}") as redis:
        for command in (("BLMOVE", "{t}a", "{t}b", "LEFT", "RIGHT", "1"), ("INCR", "{t}c")):
            with pytest.raises(RedisError):
                await redis.execute_command(*command)
    assert sent.count(b"INCR") == 1
    assert sent.count(b"BLMOVE") <= 1


async def test_a_client_that_is_closed_stays_closed(own_cluster: RedisCluster) -> None:
    async with connected(own_cluster.url) as redis:
        await redis.ping()
        for node in own_cluster.nodes:
            node.signal(signal.SIGSTOP)
        waiting = [asyncio.ensure_future(redis.get(f"{number}")) for number in range(30)]
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - set(waiting)
        await redis.aclose()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(answer, RedisError) for answer in answers)
        with pytest.raises(RedisError, match="closed"):
            await redis.get("key")
        assert asyncio.all_tasks() <= others
        for node in own_cluster.nodes:
            node.signal(signal.SIGCONT)


async def test_a_wrong_password_is_said_at_once_and_may_be_put_right(own_cluster: RedisCluster) -> None:
    async with connected(own_cluster.url.replace("//", "//app:s3cret@")) as redis:
        for _ in range(5):
            with budget(BUDGET_SECONDS), pytest.raises(UNAVAILABLE, match="WRONGPASS|invalid username-password"):
                await redis.get("key")
        for node in own_cluster.nodes:
            redis_cli(node.port, "acl", "setuser", "app", "on", ">s3cret", "~*", "&*", "+@all")
        await eventually(lambda: answers(redis), seconds=RECOVERY_SECONDS)


async def test_a_server_that_is_no_cluster_is_said_at_once(own_server: RedisServer) -> None:
    async with connected(own_server.url.replace("redis:", "redis+cluster:").removesuffix("/0")) as redis:
        with pytest.raises(RedisError, match="cluster support disabled"):
            await redis.get("key")
