"""The pipelined client answers as the plain redis-py client does, on every deployment."""

import ast
import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import DataError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

import app
from app.kit.client.cluster import PipelinedCluster
from app.kit.client.commands import blocks_for_seconds
from app.kit.client.connect import client_stats, connect, pubsub_connection
from app.kit.client.deadline import budget
from app.kit.client.deployment import deployment
from app.kit.client.standalone import PipelinedRedis
from app.kit.keys import Keys
from tests.scripts import echo
from tests.services import RedisServer
from tests.waiting import eventually

Step = Callable[[Redis, str], Awaitable[Any]]


async def fields_of(answer: Awaitable[dict[str, Any]]) -> set[str]:
    """The names of the fields: the values differ from call to call."""
    return set(await answer)


# Every command that the project sends, with its errors; each step sees what the ones before it left.
async def kinds_of(answer: Awaitable[Any]) -> set[str]:
    """Of what differs between two servers, the types alone."""
    return {type(each).__name__ for each in await answer}


STEPS: list[Step] = [
    lambda r, k: r.ping(),
    lambda r, k: kinds_of(r.client_list()),
    lambda r, k: r.set(f"{k}s", "text"),
    lambda r, k: r.set(f"{k}s", "text", nx=True),
    lambda r, k: r.set(f"{k}s", b"\xff\x00", px=100_000, get=True),
    lambda r, k: r.get(f"{k}s"),
    lambda r, k: r.get(f"{k}none"),
    lambda r, k: r.mget(f"{k}s", f"{k}s"),
    lambda r, k: r.exists(f"{k}s"),
    lambda r, k: r.incr(f"{k}s"),
    lambda r, k: r.lpush(f"{k}s", 1),
    lambda r, k: r.hset(f"{k}h", mapping={"a": 1, "b": "x", "c": 1.5}),
    lambda r, k: r.hgetall(f"{k}h"),
    lambda r, k: r.hmget(f"{k}h", ["a", "none"]),
    lambda r, k: r.hincrby(f"{k}h", "a", 2),
    lambda r, k: r.hdel(f"{k}h", "b"),
    lambda r, k: r.hgetall(f"{k}none"),
    lambda r, k: r.zadd(f"{k}z", {"one": 1, "two": 2.5}),
    lambda r, k: r.zrange(f"{k}z", 0, -1, withscores=True),
    lambda r, k: r.zscore(f"{k}z", "two"),
    lambda r, k: r.zscore(f"{k}z", "none"),
    lambda r, k: r.zrem(f"{k}z", "one"),
    lambda r, k: r.zcard(f"{k}z"),
    lambda r, k: r.rpush(f"{k}l", "a", "b"),
    lambda r, k: r.llen(f"{k}l"),
    lambda r, k: r.lrange(f"{k}l", 0, -1),
    lambda r, k: r.blpop([f"{k}l"], timeout=1),
    lambda r, k: r.xadd(f"{k}x", {"f": "v"}, id="1-1"),
    lambda r, k: r.xadd(f"{k}x", {"f": "v"}, id="1-1"),
    lambda r, k: r.xrange(f"{k}x", "-", "+", count=10),
    lambda r, k: r.xrange(f"{k}none"),
    lambda r, k: r.xrevrange(f"{k}x", count=1),
    lambda r, k: r.xlen(f"{k}x"),
    lambda r, k: r.xread({f"{k}x": "0-0"}, count=10),
    lambda r, k: r.xread({f"{k}x": "1-1"}),
    lambda r, k: r.xgroup_create(f"{k}x", "group", id="0"),
    lambda r, k: r.xgroup_create(f"{k}x", "group", id="0"),
    lambda r, k: r.xreadgroup("group", "consumer", {f"{k}x": ">"}, count=1),
    lambda r, k: r.xack(f"{k}x", "group", "1-1"),
    lambda r, k: r.xdel(f"{k}x", "1-1"),
    lambda r, k: r.sadd(f"{k}set", "a"),
    lambda r, k: r.smembers(f"{k}set"),
    lambda r, k: r.pexpire(f"{k}x", 100_000),
    lambda r, k: r.ttl(f"{k}none"),
    lambda r, k: r.persist(f"{k}x"),
    lambda r, k: r.pttl(f"{k}x"),
    lambda r, k: r.pexpire(f"{k}x", 50_000, gt=True),
    lambda r, k: r.zrevrange(f"{k}z", 0, -1),
    lambda r, k: r.renamenx(f"{k}l", f"{k}m"),
    lambda r, k: r.renamenx(f"{k}none", f"{k}m"),
    lambda r, k: r.config_get("maxmemory-policy"),
    lambda r, k: fields_of(r.info("memory")),
    lambda r, k: r.publish("channel", "message"),
    lambda r, k: r.eval("return {1, 'two', false, redis.call('GET', KEYS[1])}", 1, f"{k}s"),
    lambda r, k: r.eval("return redis.error_reply('CUSTOM wrong')", 1, f"{k}s"),
    lambda r, k: r.evalsha("0" * 40, 1, f"{k}s"),
    lambda r, k: r.script_exists("0" * 40),
    lambda r, k: r.type(f"{k}s"),
    lambda r, k: r.unlink(f"{k}s"),
    lambda r, k: r.delete(f"{k}h", f"{k}none"),
    lambda r, k: r.execute_command("NOSUCH", f"{k}s"),
    lambda r, k: r.execute_command("GET"),
]


async def outcome(step: Step, redis: Redis, prefix: str) -> tuple[str, str]:
    """What came back, or which error; the prefix is taken out of the error's text."""
    try:
        return "value", repr(await step(redis, prefix)).replace(prefix, "")
    except RedisError as error:
        return type(error).__name__, str(error).replace(prefix, "")


@pytest.fixture
async def plain(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.mark.server
@pytest.mark.parametrize("deployment", ["redis_server", "redis_cluster"])
async def test_every_command_of_the_project_answers_as_from_the_plain_client(
    request: pytest.FixtureRequest, deployment: str, plain: Redis, keys: Keys
) -> None:
    pipelined = connect(request.getfixturevalue(deployment).url, name="test", timeout_seconds=5)
    assert isinstance(pipelined, PipelinedRedis | PipelinedCluster)
    for number, step in enumerate(STEPS):
        expected = await outcome(step, plain, f"{{{keys.namespace}:p}}")
        assert await outcome(step, pipelined, f"{{{keys.namespace}:a}}") == expected, f"step {number}"
    await pipelined.aclose()


def test_no_command_of_the_project_is_left_out() -> None:
    compared = _methods_called(Path(__file__))
    used = set().union(*(_methods_called(path, of="redis") for path in Path(app.__file__).parent.rglob("*.py")))
    typed = {name for name in used if hasattr(Redis, name)} - {"aclose", "initialize", "execute_command"}
    assert typed >= {"blpop", "get", "hgetall", "unlink", "zrange"}, "commands of the kit were not found"
    assert typed <= compared


def _methods_called(path: Path, *, of: str = "r") -> set[str]:
    """Names of methods that the file calls on something named `of` or `_of`."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {
        call.attr
        for call in calls
        if isinstance(call, ast.Attribute)
        and (call.value.id if isinstance(call.value, ast.Name) else getattr(call.value, "attr", "")).lstrip("_") == of
    }


@pytest.mark.server
async def test_connections_are_few_and_named_however_many_callers_there_are(
    redis_server: RedisServer, plain: Redis, keys: Keys
) -> None:
    redis = connect(redis_server.url, name="few:web", timeout_seconds=5)
    blocked = asyncio.ensure_future(redis.blpop([f"{keys.namespace}:list"], timeout=5))
    for _ in range(3):
        await asyncio.gather(*(redis.get(f"{keys.namespace}:{number}") for number in range(1000)))
    named = [client for client in await plain.client_list() if client["name"] == "few:web"]
    assert len(named) == 2
    assert client_stats(redis)["server"]["dedicated"] == 1
    await redis.rpush(f"{keys.namespace}:list", "x")
    await blocked
    await redis.aclose()


@pytest.mark.server
async def test_commands_of_one_tick_share_one_round_trip(real_redis: Redis, keys: Keys) -> None:
    await real_redis.ping()
    before = client_stats(real_redis)["server"]["batches"]
    names = [f"{keys.namespace}:{number}" for number in range(100)]
    await asyncio.gather(*(real_redis.set(name, name) for name in names))
    assert await asyncio.gather(*(real_redis.get(name) for name in names)) == [name.encode() for name in names]
    assert client_stats(real_redis)["server"]["batches"] - before == 2


@pytest.mark.server
async def test_a_batch_is_bounded_in_commands_and_bytes(real_redis: Redis, keys: Keys) -> None:
    await real_redis.ping()
    before = client_stats(real_redis)["server"]["batches"]
    value = b"x" * 100_000
    await asyncio.gather(*(real_redis.set(f"{keys.namespace}:{number}", value) for number in range(30)))
    await asyncio.gather(*(real_redis.get(f"{keys.namespace}:none") for _ in range(2000)))
    assert client_stats(real_redis)["server"]["batches"] - before >= 10 + 4


@pytest.mark.server
async def test_one_commands_error_reaches_only_its_own_caller(real_redis: Redis, keys: Keys) -> None:
    key = f"{keys.namespace}:list"
    await real_redis.rpush(key, "a")
    answers = await asyncio.gather(real_redis.get(key), real_redis.llen(key), real_redis.ping(), return_exceptions=True)
    assert isinstance(answers[0], RedisError)
    assert list(answers[1:]) == [1, True]


@pytest.mark.server
async def test_the_number_of_connections_does_not_grow_with_callers(
    redis_server: RedisServer, plain: Redis, keys: Keys
) -> None:
    client = connect(redis_server.url, name=f"{keys.namespace}:node:web", timeout_seconds=5)
    await asyncio.gather(*(client.get("x") for _ in range(500)))
    names = [entry["name"] for entry in await plain.client_list()]
    assert names.count(f"{keys.namespace}:node:web") == 1
    await client.aclose()


async def test_an_unknown_script_is_sent_whole_and_nothing_else_runs_twice(redis: Redis, keys: Keys) -> None:
    counter = keys.session("bucket", "counter")
    await redis.script_flush()
    tag = f"{counter}:tag"
    answers = await asyncio.gather(redis.incr(counter), echo(redis, tag, "0123"), redis.incr(counter))
    assert list(answers) == [1, "0123", 2]
    assert await echo(redis, f"{tag}:other", "4567") == "4567"
    assert await redis.get(counter) == b"2"


async def test_a_transaction_and_a_watch_keep_their_own_connection(redis_url: str, keys: Keys) -> None:
    redis = connect(redis_url, name="test", timeout_seconds=5)
    key = keys.session("bucket", "watched")
    async with redis.pipeline(transaction=True) as transaction:
        await transaction.watch(key)
        await redis.set(key, "other")
        transaction.multi()
        transaction.set(key, "mine")
        with pytest.raises(RedisError):
            await transaction.execute()
    assert await redis.get(key) == b"other"
    await redis.aclose()


@pytest.mark.server
async def test_a_blocking_command_delays_no_other(real_redis: Redis, keys: Keys) -> None:
    waiting = asyncio.ensure_future(real_redis.blpop([f"{keys.namespace}:list"], timeout=5))
    for _ in range(100):
        await real_redis.ping()
    assert not waiting.done()
    await real_redis.rpush(f"{keys.namespace}:list", "x")
    assert await waiting == (f"{keys.namespace}:list".encode(), b"x")


@pytest.mark.server
async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(real_redis: Redis, keys: Keys) -> None:
    names = [f"{keys.namespace}:{number}" for number in range(50)]
    await asyncio.gather(*(real_redis.set(name, name) for name in names))
    for turns in range(4):
        tasks = [asyncio.ensure_future(real_redis.get(name)) for name in names]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (name, answer) in enumerate(zip(names, answers, strict=True)):
            assert answer == name.encode() or (number % 3 == 0 and isinstance(answer, asyncio.CancelledError))


@pytest.mark.server
async def test_a_budget_is_not_charged_while_redis_answers(real_redis: Redis) -> None:
    with budget(0.25) as given:
        for _ in itertools.repeat(None, 50):
            await real_redis.ping()
    assert given.remaining_seconds == 0.25


@pytest.mark.server
async def test_close_answers_those_who_still_wait(redis_server: RedisServer) -> None:
    client = connect(redis_server.url, name="test", timeout_seconds=5)
    waiting = asyncio.ensure_future(client.get("x"))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(RedisError):
        await waiting


async def test_keys_of_several_slots_go_by_the_pipelines_too(redis: Redis, keys: Keys) -> None:
    names = [f"{keys.namespace}:{number}" for number in range(20)]
    await asyncio.gather(*(redis.set(name, "x") for name in names))
    before = sum(stats.get("commands", 0) for stats in client_stats(redis).values())
    assert await redis.exists(*names) == 20
    assert await redis.unlink(*names[:10]) == 10
    assert await redis.delete(*names) == 10
    if client_stats(redis):
        assert sum(stats.get("commands", 0) for stats in client_stats(redis).values()) > before


@pytest.mark.server
def test_a_command_in_a_loop_that_ends_gets_its_answer(redis_server: RedisServer) -> None:
    """asyncio.run() cancels every task at its end, the pipeline's with them; who cleans up may still need Redis."""
    redis = connect(redis_server.url, name="ending", timeout_seconds=5)
    found: list[object] = []

    async def clean_up_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            found.append(await redis.ping())
            await redis.aclose()

    async def main() -> None:
        await redis.ping()
        background.append(asyncio.create_task(clean_up_at_the_end()))
        await asyncio.sleep(0)

    background: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert found == [True]


@pytest.mark.server
@pytest.mark.parametrize("where", ["in the loop that ends", "in the next loop"])
def test_what_is_under_way_when_a_loop_ends_answers_no_later_command(redis_server: RedisServer, where: str) -> None:
    redis = connect(redis_server.url, name="ending", timeout_seconds=5)
    found: list[object] = []

    async def ask_and_close() -> None:
        found.extend([await redis.execute_command("ECHO", f"mine{number}") for number in range(4)])
        await redis.aclose()

    async def clean_up_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if where == "in the loop that ends":
                await ask_and_close()

    async def main() -> None:
        await redis.ping()
        slow = "local n = 0 for i = 1, 20000000 do n = n + 1 end return 'slow'"
        background.append(asyncio.ensure_future(clean_up_at_the_end()))
        background.append(asyncio.ensure_future(redis.eval(slow, 0)))
        background.append(asyncio.ensure_future(redis.get("no such key")))
        await eventually(lambda: client_stats(redis)["server"]["commands"] == 3)

    background: list[asyncio.Future[Any]] = []
    asyncio.run(main())
    if where == "in the next loop":
        asyncio.run(ask_and_close())
    assert found == [f"mine{number}".encode() for number in range(4)]


@pytest.mark.server
async def test_a_listener_is_a_dedicated_connection(real_redis: Redis) -> None:
    connection = await pubsub_connection(real_redis, "key")
    await connection.connect()
    assert client_stats(real_redis)["server"]["dedicated"] == 1
    await connection.disconnect()
    assert client_stats(real_redis)["server"]["dedicated"] == 0


async def test_each_client_says_what_its_deployment_is(redis_url: str, redis: Redis) -> None:
    found = deployment(redis)
    assert found.is_embedded == (redis_url == "memory://")
    assert found.is_clustered == redis_url.startswith("redis+cluster:")
    assert bool(found.stats()) == (not found.is_embedded)


async def test_a_pubsub_connection_of_each_deployment(redis: Redis, keys: Keys) -> None:
    channel = keys.event_channel("news")
    connection = await pubsub_connection(redis, channel)
    await connection.connect()
    await connection.send_command("SUBSCRIBE", channel)
    confirmed = await connection.read_response(push_request=True)
    assert confirmed[:2] == [b"subscribe", channel.encode()]
    await connection.disconnect()


@pytest.mark.server
async def test_a_client_with_a_connection_to_itself(real_redis: Redis, keys: Keys) -> None:
    async with real_redis.client() as own:
        assert await own.set(f"{keys.namespace}:own", "x")
        assert await own.client_getname() == "test"
    assert await real_redis.get(f"{keys.namespace}:own") == b"x"
    assert await real_redis.transaction(lambda pipe: pipe.multi() or pipe.get(f"{keys.namespace}:own")) == [b"x"]


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("BLPOP", "a", "b", 30), 30.0),
        (("BLMOVE", "a", "b", "LEFT", "LEFT", 1.5), 1.5),
        (("BLMPOP", 7, 1, "a", "LEFT"), 7.0),
        (("BRPOP", "a", 0), math.inf),
        (("WAIT", 1, 500), 0.5),
        (("XREAD", b"BLOCK", 2000, b"STREAMS", "a", "0"), 2.0),
        (("CLIENT", "LIST"), 0.0),
    ],
)
def test_how_long_a_command_asks_to_wait(command: tuple[Any, ...], seconds: float) -> None:
    """It gets that time on top of what any other gets."""
    assert blocks_for_seconds(command) == seconds


@pytest.mark.server
async def test_a_command_without_a_name_is_refused_and_harms_no_other(real_redis: Redis, keys: Keys) -> None:
    """Redis would not answer it, and each reply after it would go to the wrong command."""
    names = [f"{keys.namespace}:{number}" for number in range(3)]
    await asyncio.gather(*(real_redis.set(name, name) for name in names))
    asked = [real_redis.execute_command(nothing) for nothing in ("", " ")]
    answers = await asyncio.gather(*asked, *(real_redis.get(name) for name in names), return_exceptions=True)
    assert all(isinstance(answer, DataError) for answer in answers[:2])
    assert answers[2:] == [name.encode() for name in names]


@pytest.mark.server
@pytest.mark.parametrize("deployment", ["redis_server", "redis_cluster"])
async def test_a_client_that_is_closed_stays_closed(request: pytest.FixtureRequest, deployment: str) -> None:
    redis = connect(request.getfixturevalue(deployment).url, name="closed", timeout_seconds=5)
    await redis.set("key", "value")
    await redis.aclose()
    pipeline = redis.pipeline(transaction=False)
    pipeline.get("key")
    for ask in (lambda: redis.get("key"), lambda: redis.blpop(["list"], timeout=1), pipeline.execute):
        with pytest.raises(RedisError, match="closed"):
            await ask()


@pytest.mark.parametrize("deployment", ["redis_server", "redis_cluster"])
@pytest.mark.server
async def test_many_transactions_wait_for_a_connection(
    deployment: str, keys: Keys, request: pytest.FixtureRequest
) -> None:
    redis = connect(request.getfixturevalue(deployment).url, name="test", timeout_seconds=5, max_connections=8)
    key = keys.own("counter")

    async def count_up() -> None:
        async with redis.pipeline(transaction=True) as transaction:
            transaction.incr(key)
            transaction.expire(key, 60)
            await transaction.execute()

    with budget(30):
        await asyncio.gather(*(count_up() for _ in range(300)))
    assert await redis.get(key) == b"300"
    await redis.aclose()


@pytest.mark.server
async def test_waiting_for_a_connection_is_within_the_budget(real_redis: Redis, redis_server: RedisServer) -> None:
    """Each of two holds one; a third ends with its budget, and a fourth, which waits behind it, gets the first free."""
    redis = connect(redis_server.url, name="test", timeout_seconds=5, max_connections=2)
    hold: Callable[[], Any] = lambda: redis.blpop(["none", "other"], timeout=30)  # noqa: E731
    holding = [asyncio.ensure_future(hold()) for _ in range(2)]
    await eventually(lambda: client_stats(redis)["server"]["dedicated"] == 2)

    async def transaction() -> None:
        pipeline = redis.pipeline(transaction=True)
        pipeline.ping()
        await pipeline.execute()

    with budget(0.05), pytest.raises(RedisTimeoutError):
        await transaction()
    with budget(30):
        waiting = asyncio.create_task(transaction())
    cancelled = asyncio.create_task(transaction())
    await asyncio.sleep(0)
    cancelled.cancel()
    await real_redis.rpush("none", "x")
    await waiting
    for each in holding:
        each.cancel()
    await asyncio.gather(*holding, cancelled, return_exceptions=True)
    await redis.aclose()
