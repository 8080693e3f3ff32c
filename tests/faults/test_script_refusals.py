"""Scripts that answer READONLY or LOADING themselves: their caller gets it, and no other command is concerned."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.client.connect import client_stats, connect
from app.kit.client.deadline import budget
from app.kit.client.pending import SENDS
from app.kit.keys import Keys
from tests.deployments import redis_cli
from tests.fake_redis import GREETINGS, read_command, serving
from tests.faults.load import BUDGET_SECONDS, Load
from tests.services import RedisServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server

READONLY = "redis.call('INCR', KEYS[1]) return redis.error_reply('READONLY says the script')"
LOADING = "redis.call('INCR', KEYS[1]) return redis.error_reply('LOADING says the script')"
SCRIPTS = pytest.mark.parametrize(("script", "error"), [(READONLY, ReadOnlyError), (LOADING, BusyLoadingError)])


@pytest.fixture
async def client(own_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(own_server.url, name="refusals", timeout_seconds=5)
    yield client
    await client.aclose()


@SCRIPTS
async def test_its_caller_gets_the_error_and_it_runs_once(client: Redis, script: str, error: type[Exception]) -> None:
    await client.ping()
    for turn in range(1, 5):
        with budget(BUDGET_SECONDS) as given, pytest.raises(error, match="says the script"):
            await client.eval(script, 1, "runs")
        assert given.remaining_seconds > 0
        assert await client.get("runs") == b"%d" % turn
    stats = client_stats(client)["server"]
    assert (stats["breaks"], stats["repeats"], stats["opened"]) == (0, 0, 0)


@SCRIPTS
async def test_commands_of_the_same_connection_keep_their_answers(
    client: Redis, script: str, error: type[Exception]
) -> None:
    """INCR may not be sent twice: one that lost its reply would fail."""
    await client.ping()
    for _ in range(50):
        asked = [client.incr("before"), client.eval(script, 1, "runs"), client.incr("after")]
        before, refused, after = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, error)
        assert isinstance(before, int)
        assert isinstance(after, int)
    assert [await client.get(key) for key in ("before", "runs", "after")] == [b"50", b"50", b"50"]
    assert client_stats(client)["server"]["breaks"] == 0


@SCRIPTS
async def test_commands_that_never_pause_keep_their_answers(
    client: Redis, keys: Keys, script: str, error: type[Exception]
) -> None:
    async with Load(client, keys.own("test")) as load:
        await eventually(lambda: load.answered > 200)
        for _ in range(50):
            with pytest.raises(error, match="says the script"):
                await client.eval(script, 1, "runs")
    assert (load.wrong, load.errors.total()) == (0, 0)
    assert await client.get("runs") == b"50"


async def test_a_script_that_a_replica_refuses_runs_at_the_primary(own_server: RedisServer, client: Redis) -> None:
    """The server's own refusal: the script did not write, so it is sent again once the server is a primary."""
    write = "return redis.call('INCR', KEYS[1])"
    assert await client.eval(write, 1, "counter") == 1
    redis_cli(own_server.port, "replicaof", "127.0.0.1", str(free_port()))
    waiting = [asyncio.ensure_future(client.eval(write, 1, "counter")) for _ in range(3)]
    await eventually(lambda: client_stats(client)["server"]["breaks"] == 1)
    redis_cli(own_server.port, "replicaof", "no", "one")
    assert await asyncio.gather(*waiting) == [2, 3, 4]


async def test_a_script_that_may_have_run_is_not_sent_again() -> None:
    """The connection breaks before the server has said whether it still serves."""
    sends = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sends
        refused = False
        # The next thing asked after the refusal is not answered.
        while (words := await read_command(reader)) and not refused:
            refused = words[0] not in GREETINGS
            sends += refused
            writer.write(GREETINGS.get(words[0], b"-READONLY says the script\r\n"))
            await writer.drain()

    async with serving(serve) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="lost", timeout_seconds=5)
        with pytest.raises(RedisConnectionError, match="may have run"):
            await client.eval(READONLY, 1, "runs")
        assert sends == 1
        await client.aclose()


async def test_refusals_without_end_are_told_to_the_caller() -> None:
    """A server that is a primary whenever a connection is made, and a replica from its first command on."""
    sends = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sends
        role = b"master"
        while words := await read_command(reader):
            if words[0] in GREETINGS:
                writer.write(GREETINGS[words[0]].replace(b"master", role))
            else:
                sends, role = sends + 1, b"replica"
                writer.write(b"-READONLY You can't write against a read only replica.\r\n")
            await writer.drain()

    async with serving(serve) as port:
        client = connect(f"redis://127.0.0.1:{port}", name="flapping", timeout_seconds=5)
        with pytest.raises(ReadOnlyError, match="read only replica"):
            await client.incr("counter")
        assert sends == SENDS
        await client.aclose()
