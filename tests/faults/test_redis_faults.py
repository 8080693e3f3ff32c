"""What the client does when Redis dies, hangs, lies or forgets: bounded waits, own answers, back by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisError

from app.kit.client.commands import REPEATABLE
from app.kit.client.connect import client_stats, connect
from app.kit.client.deadline import budget
from app.kit.client.errors import UNAVAILABLE, CircuitOpen, Refused
from app.kit.client.pending import SENDS
from app.kit.keys import Keys
from tests.deployments import redis_cli
from tests.fake_redis import GREETINGS, Last, fake_redis, read_command, serving
from tests.faults.load import BUDGET_SECONDS, SLACK_SECONDS, Load
from tests.services import RedisServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server

# After Redis is back, it must be in use again within this.
RECOVERY_SECONDS = 2.0


@pytest.fixture
async def client(own_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(own_server.url, name="faults", timeout_seconds=5)
    yield client
    await client.aclose()


@pytest.fixture
async def load(client: Redis, keys: Keys) -> AsyncIterator[Load]:
    async with Load(client, keys.own("test")) as load:
        await eventually(lambda: load.answered > 1000)
        yield load
    assert load.wrong == 0
    assert load.longest_seconds < BUDGET_SECONDS + SLACK_SECONDS


async def recovered(load: Load) -> None:
    answered = load.answered
    await eventually(lambda: load.answered > answered + 500, seconds=RECOVERY_SECONDS)


async def test_killed_and_restarted_under_load(own_server: RedisServer, load: Load) -> None:
    for _ in range(2):
        own_server.kill()
        load.errors.clear()
        await eventually(lambda: load.errors["CircuitOpen"] > 100)
        own_server.start()
        await recovered(load)


async def stopped_for(seconds: float, own_server: RedisServer, load: Load) -> None:
    own_server.signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    await eventually(lambda: load.errors["CircuitOpen"] > 100 and loop.time() > until, seconds=seconds + 10)
    own_server.signal(signal.SIGCONT)
    await recovered(load)


async def test_stopped_without_a_word_and_continued(own_server: RedisServer, load: Load) -> None:
    await stopped_for(2, own_server, load)


@pytest.mark.long
async def test_stopped_for_20_seconds_and_continued(own_server: RedisServer, load: Load) -> None:
    await stopped_for(20, own_server, load)


@asynccontextmanager
async def repeating(redis_url: str, every_seconds: float, *command: str) -> AsyncIterator[None]:
    """Another client sends `command` again and again."""
    other = Redis.from_url(redis_url)
    done = asyncio.Event()

    async def repeat() -> None:
        # Ended by an event, not cancelled: redis-py's own client may swallow a cancellation on Python 3.11.
        while not done.is_set():
            await other.execute_command(*command)
            await asyncio.sleep(every_seconds)

    task = asyncio.create_task(repeat())
    yield
    done.set()
    await task
    await other.aclose()


async def disturbed_for(
    seconds: float, own_server: RedisServer, load: Load, every_seconds: float, *command: str
) -> None:
    loop = asyncio.get_running_loop()
    until, answered = loop.time() + seconds, load.answered
    async with repeating(own_server.url, every_seconds, *command):
        await eventually(lambda: loop.time() > until, seconds=seconds + 10)
    assert load.answered > answered + 500
    await recovered(load)


KILL = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_connections_killed_every_100_ms(own_server: RedisServer, load: Load) -> None:
    await disturbed_for(1, own_server, load, 0.1, *KILL)


@pytest.mark.long
async def test_connections_killed_every_100_ms_for_10_seconds(own_server: RedisServer, load: Load) -> None:
    await disturbed_for(10, own_server, load, 0.1, *KILL)


async def test_scripts_flushed_every_10_ms_are_sent_whole(own_server: RedisServer, load: Load) -> None:
    await disturbed_for(1, own_server, load, 0.01, "SCRIPT", "FLUSH")
    assert not load.errors


async def test_everything_flushed_under_load(own_server: RedisServer, load: Load) -> None:
    await disturbed_for(0.5, own_server, load, 0.01, "FLUSHALL")
    assert not load.errors


async def test_a_full_server_refuses_writes_and_goes_on_reading(client: Redis, keys: Keys) -> None:
    await client.set(keys.own("test"), "kept")
    await client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await client.set(keys.own("test"), "more")
    assert await client.get(keys.own("test")) == b"kept"
    await client.config_set("maxmemory", 0)
    assert await client.set(keys.own("test"), "more")


async def test_a_command_that_may_not_run_twice_is_not_sent_twice(own_server: RedisServer, client: Redis) -> None:
    """INCR under killed connections: each answer says that it ran; the rest may have run once, never twice."""
    answered = failed = 0
    async with repeating(own_server.url, 0.005, *KILL):
        for _ in range(300):
            try:
                await client.incr("counter")
                answered += 1
            except UNAVAILABLE:
                failed += 1
    total = int(await client.get("counter") or 0)
    assert answered <= total <= answered + failed
    assert failed > 0


async def test_the_breaker_opens_and_a_closed_one_stays_out_of_the_way(own_server: RedisServer, client: Redis) -> None:
    assert await client.ping()
    assert client_stats(client)["server"]["breaker"] == "closed"
    own_server.kill()
    with budget(BUDGET_SECONDS), pytest.raises(UNAVAILABLE):
        await client.get("x")
    await eventually(lambda: client_stats(client)["server"]["breaker"] == "open")
    own_server.start()
    await eventually(lambda: client_stats(client)["server"]["breaker"] == "closed", seconds=RECOVERY_SECONDS)


async def test_background_work_waits_for_redis_to_come_back(own_server: RedisServer, client: Redis) -> None:
    await client.set("key", "value")
    own_server.kill()
    waiting = asyncio.ensure_future(client.set("key", "again"))
    await eventually(lambda: client_stats(client)["server"]["connect_failures"] > 2)
    assert not waiting.done()
    own_server.start()
    assert await waiting


GARBAGE = {
    "not the protocol": b"HTTP/1.1 200 OK\r\n\r\n",
    "half a reply": b"$10\r\nhalf",
    "more replies than commands": b"+OK\r\n" * 50,
    "nothing": b"",
    "a huge length": b"$999999999999999999999\r\n",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_server_that_answers_with_garbage(answer: bytes) -> None:
    """Each caller gets an error within its budget, and none an answer."""
    lies = 0

    def lie(words: list[bytes]) -> bytes:
        nonlocal lies
        lies += 1
        return Last(answer)

    async with fake_redis(lie) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="garbage", timeout_seconds=5)
        loop = asyncio.get_running_loop()
        for _ in range(3):
            began = loop.time()
            with budget(BUDGET_SECONDS):
                answers = await asyncio.gather(*(client.get(f"{n}") for n in range(8)), return_exceptions=True)
            assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
            if answer != GARBAGE["more replies than commands"]:
                assert all(isinstance(found, RedisError) for found in answers)
        assert lies > 1
        await client.aclose()


async def is_refused_at_once(client: Redis) -> bool:
    with budget(BUDGET_SECONDS):
        try:
            await client.get("x")
        except UNAVAILABLE as error:
            return isinstance(error, CircuitOpen)
    return False


async def test_a_server_that_still_loads_its_data_opens_the_circuit(tmp_path: Path) -> None:
    """It takes connections and answers each command with LOADING."""
    server = RedisServer(tmp_path).start()
    client = connect(server.url, name="loading", timeout_seconds=10)
    try:
        await client.mset({f"key{number}": "x" * 100 for number in range(1000)})
        await client.save()
        server.stop()
        await eventually(lambda: not client_stats(client)["server"]["connected"])
        # Two milliseconds a key, and a look at the clients after each few keys.
        server.options = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
        server.start()
        waiting = asyncio.ensure_future(client.incr("counter"))
        await eventually(lambda: is_refused_at_once(client))
        assert not waiting.done()
        assert await waiting == 1
        assert await client.get("key999") == b"x" * 100
    finally:
        await client.aclose()
        server.stop()


async def test_a_server_that_is_made_a_replica_opens_the_circuit(own_server: RedisServer, client: Redis) -> None:
    """As where a name is to lead to another primary, and does not yet. What was refused did not run, and runs later."""
    assert await client.incr("counter") == 1
    redis_cli(own_server.port, "replicaof", "127.0.0.1", str(free_port()))
    waiting = asyncio.ensure_future(client.incr("counter"))
    await eventually(lambda: is_refused_at_once(client))
    assert not waiting.done()
    redis_cli(own_server.port, "replicaof", "no", "one")
    assert await waiting == 2


async def test_a_user_of_few_rights_finds_out_too(own_server: RedisServer) -> None:
    """ROLE is among the dangerous commands; every user may send HELLO, whose reply has the role."""
    redis_cli(own_server.port, "acl", "setuser", "app", "on", ">s3cret", "~*", "&*", "+@all", "-@dangerous")
    client = connect(own_server.url.replace("//", "//app:s3cret@"), name="few", timeout_seconds=5)
    assert await client.incr("counter") == 1
    redis_cli(own_server.port, "replicaof", "127.0.0.1", str(free_port()))
    waiting = asyncio.ensure_future(client.incr("counter"))
    await eventually(lambda: is_refused_at_once(client))
    redis_cli(own_server.port, "replicaof", "no", "one")
    assert await waiting == 2
    await client.aclose()


async def test_a_user_without_the_rights_to_connect_is_told_at_once(own_server: RedisServer) -> None:
    redis_cli(own_server.port, "acl", "setuser", "few", "on", ">s3cret", "~*", "+@read", "+@write", "+ping")
    client = connect(own_server.url.replace("//", "//few:s3cret@"), name="few", timeout_seconds=30)
    with pytest.raises(NoPermissionError, match="client"):
        await client.get("key")
    await client.aclose()


async def test_a_command_without_the_right_to_it_is_a_defect(own_server: RedisServer) -> None:
    redis_cli(own_server.port, "acl", "setuser", "app", "on", ">s3cret", "~*", "&*", "+@all", "-incrby")
    client = connect(own_server.url.replace("//", "//app:s3cret@"), name="few", timeout_seconds=5)
    with budget(BUDGET_SECONDS) as given, pytest.raises(NoPermissionError) as caught:
        await client.incr("counter")
    assert not isinstance(caught.value, UNAVAILABLE)
    assert given.remaining_seconds == BUDGET_SECONDS
    assert client_stats(client)["server"]["breaker"] == "closed"
    await client.aclose()


async def test_a_database_that_there_is_not_is_said_at_once(own_server: RedisServer) -> None:
    client = connect(f"redis://127.0.0.1:{own_server.port}/99", name="far", timeout_seconds=30)
    with pytest.raises(RedisError, match="DB index"):
        await client.get("key")
    await client.aclose()


async def test_a_server_that_greets_and_then_drops_each_command_opens_the_circuit() -> None:
    async with fake_redis(lambda words: Last(b"")) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="drops", timeout_seconds=1)
        background = asyncio.ensure_future(client.get("y"))
        await eventually(lambda: is_refused_at_once(client))
        stats = client_stats(client)["server"]
        # Sent a few times, not until its time is up: it may be this very command that breaks the connection.
        with pytest.raises(RedisError):
            await background
        assert stats["opened"] >= 1
        assert stats["repeats"] <= 2 * stats["commands"]
        await client.aclose()


async def test_a_command_that_breaks_its_connection_stops_no_other(own_server: RedisServer, load: Load) -> None:
    """One that is larger than the server takes: the server closes the connection, each time it is sent."""
    client = connect(own_server.url, name="poison", timeout_seconds=5)
    redis_cli(own_server.port, "config", "set", "client-query-buffer-limit", "1mb")
    async with Load(client, "others") as others:
        await eventually(lambda: others.answered > 200)
        connects = client_stats(client)["server"]["connects"]
        innocent = asyncio.gather(*(client.set(f"key{number}", "x") for number in range(5)))
        with pytest.raises(UNAVAILABLE):
            await client.set("key", b"x" * (2 << 20))
        assert await innocent == [True] * 5
        assert client_stats(client)["server"]["connects"] - connects <= SENDS
        answered = others.answered
        await eventually(lambda: others.answered > answered + 200)
    assert others.wrong == 0
    await client.aclose()


async def test_a_transaction_waits_no_longer_than_its_budget(own_server: RedisServer, client: Redis) -> None:
    async with client.pipeline() as transaction:
        transaction.set("key", "value")
        transaction.get("key")
        assert await transaction.execute() == [True, b"value"]
    own_server.signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with budget(BUDGET_SECONDS), pytest.raises(UNAVAILABLE):
        async with client.pipeline() as transaction:
            await transaction.watch("key")
    assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
    own_server.signal(signal.SIGCONT)
    await eventually(lambda: client.set("key", "value"))
    with budget(BUDGET_SECONDS):
        async with client.pipeline() as transaction:
            await transaction.watch("key")
            own_server.signal(signal.SIGSTOP)
            began = loop.time()
            with pytest.raises(UNAVAILABLE):
                await transaction.get("key")
    assert loop.time() - began < BUDGET_SECONDS + SLACK_SECONDS
    own_server.signal(signal.SIGCONT)


async def test_a_connection_that_is_closed_while_idle_costs_nothing(own_server: RedisServer, client: Redis) -> None:
    """As servers do with those that are idle for long."""
    for _ in range(5):
        await client.ping()
        connects = client_stats(client)["server"]["connects"]
        redis_cli(own_server.port, "client", "kill", "type", "normal", "skipme", "yes")
        await eventually(lambda connects=connects: client_stats(client)["server"]["connects"] > connects)  # type: ignore[misc]
        assert client_stats(client)["server"]["breaker"] == "closed"
    assert client_stats(client)["server"]["opened"] == 0


async def test_what_was_refused_is_sent_anew_in_its_order(own_server: RedisServer, client: Redis) -> None:
    await client.set("key", "before")
    redis_cli(own_server.port, "replicaof", "127.0.0.1", str(free_port()))
    writes = [asyncio.ensure_future(client.append("key", letter)) for letter in "abcdef"]
    await eventually(lambda: client_stats(client)["server"]["breaks"] >= 1)
    redis_cli(own_server.port, "replicaof", "no", "one")
    await asyncio.gather(*writes)
    assert await client.get("key") == b"beforeabcdef"


async def test_a_reply_that_comes_in_slowly_is_waited_for() -> None:
    """Each part is a sign of life, though it takes longer than a silence may."""
    parts = [b"$%d\r\n" % 150, *[b"x"] * 150, b"\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (words := await read_command(reader)) and words[0] in GREETINGS:
            writer.write(GREETINGS[words[0]])
        for part in parts if words else ():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(serve) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="slow", timeout_seconds=5)
        assert await client.get("key") == b"x" * 150
        assert client_stats(client)["server"]["connects"] == 1
        await client.aclose()


SLOW = """
redis.call('INCR', KEYS[1])
local function now() local t = redis.call('TIME') return t[1] + t[2] / 1000000 end
local began = now()
while now() < began + 1.4 do end
return 'done'
"""


async def test_a_script_that_is_slow_gets_its_time(client: Redis, keys: Keys) -> None:
    """Silence of a second is taken for a dead peer, and a repeatable script is sent again; then it is waited for."""
    assert await client.execute_command("EVAL", SLOW, 1, keys.own("test"), **{REPEATABLE: True}) == b"done"
    assert int(await client.get(keys.own("test")) or 0) == 2


@pytest.mark.parametrize(
    "refusal",
    ["MISCONF Errors writing to the AOF file", "NOREPLICAS Not enough good replicas to write.", "BUSY a script runs"],
)
async def test_a_server_that_cannot_serve_now_is_unreachable_to_its_callers(refusal: str) -> None:
    async with fake_redis(lambda words: f"-{refusal}\r\n".encode()) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="refused", timeout_seconds=5)
        with pytest.raises(Refused, match=refusal):
            await client.set("key", "value")
        assert issubclass(Refused, UNAVAILABLE)
        await client.aclose()
