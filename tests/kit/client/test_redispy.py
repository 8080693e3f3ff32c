"""What the client uses beyond redis-py's documented interface exists, in the version that it was checked with."""

import ast
import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, NodesManager, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError

from app.kit.client import redispy
from app.kit.client.connect import connect
from app.kit.client.redispy import ClusterBase, error_parser, read_reply, stream_reader, stream_writer
from tests.fake_redis import GREETINGS, OK, read_command, serving
from tests.services import RedisServer

CLIENT = Path(redispy.__file__).parent


def test_the_installed_version_is_the_one_that_was_checked() -> None:
    """On another version: compare what this module's tests name in redis-py's changes, then raise VERIFIED_VERSION."""
    assert redis_py.__version__ == redispy.VERIFIED_VERSION


@pytest.mark.server
async def test_a_connection_has_its_streams_and_its_parser(redis_server: RedisServer) -> None:
    connection = Connection(port=redis_server.port, **redispy.SHORT_HANDSHAKE)
    await connection.connect()
    assert isinstance(stream_reader(connection), asyncio.StreamReader)
    assert isinstance(stream_writer(connection), asyncio.StreamWriter)
    assert isinstance(error_parser(connection)("READONLY no"), ReadOnlyError)
    await connection.send_command("NOSUCH")
    assert "unknown command" in str(await read_reply(connection))
    await connection.send_command("PING")
    assert await read_reply(connection) == b"PONG"
    await connection.disconnect()


async def test_the_handshake_is_short() -> None:
    """HELLO and the name: each other command would be a round trip more."""
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await read_command(reader):
            sent.append(b" ".join(words[:2]))
            writer.write(GREETINGS.get(words[0], OK))
            await writer.drain()

    async with serving(serve) as port:
        short = Connection(port=port, client_name="short", **redispy.SHORT_HANDSHAKE)
        await short.connect()
        await short.disconnect()
        assert sent == [b"HELLO 3", b"CLIENT SETNAME"]
        usual = Connection(port=port, client_name="usual")
        await usual.connect()
        await usual.disconnect()
        assert len(sent) > 4


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_what_is_overridden_has_the_same_parameters() -> None:
    assert parameters(RedisCluster._execute_pipeline_by_slot) == parameters(ClusterBase._execute_pipeline_by_slot)
    assert parameters(Pipeline.immediate_execute_command) == ["self", "args", "options"]
    assert parameters(Pipeline.reset) == ["self"]
    assert parameters(Pipeline.execute) == ["self", "raise_on_error"]
    assert parameters(ClusterPipeline.initialize) == ["self"]
    assert parameters(ClusterPipeline.execute) == ["self", "raise_on_error", "allow_redirections"]
    assert parameters(Redis.aclose) == ["self", "close_connection_pool"]
    for function in (
        RedisCluster._execute_pipeline_by_slot,
        Pipeline.immediate_execute_command,
        Pipeline.reset,
        Pipeline.execute,
        ClusterPipeline.initialize,
        ClusterPipeline.execute,
        AbstractConnection.read_response,
        NodesManager.aclose,
    ):
        assert inspect.iscoroutinefunction(function)
    assert "disconnect_on_error" in parameters(AbstractConnection.read_response)
    assert "check_health" in parameters(AbstractConnection.send_packed_command)


@pytest.mark.server
async def test_a_cluster_has_the_parts_that_are_used(redis_server: RedisServer) -> None:
    cluster = ClusterBase(seeds=[("127.0.0.1", redis_server.port)])
    assert cluster.node_flag("GET") is None
    assert cluster.node_flag("PING") == RedisCluster.DEFAULT_NODE
    assert cluster.node_flag("FLUSHALL") not in {None, RedisCluster.DEFAULT_NODE}
    assert await cluster.parse_reply(b"PONG", "PING", {}) is True
    assert await cluster.parse_reply(2, "EXISTS", {}) == 2
    connection = cluster.make_connection(("127.0.0.1", redis_server.port))
    await connection.connect()
    await connection.disconnect()
    assert cluster.count_node_connections() == 0
    # In place of initialize(), which needs a real cluster.
    node = ClusterNode("127.0.0.1", redis_server.port)
    cluster.nodes_manager.nodes_cache[node.name] = node
    assert await node.execute_command("PING")
    assert cluster.count_node_connections() == 1
    await cluster.close_nodes()
    assert all(not connection.is_connected for connection in node._connections)


@pytest.mark.server
async def test_the_client_of_one_server_closes_its_pool_and_counts_it(redis_server: RedisServer) -> None:
    redis = connect(redis_server.url, name="parts", timeout_seconds=5)
    assert redis.auto_close_connection_pool
    assert "ping" in redis.response_callbacks
    assert "GET" not in redis.response_callbacks
    await redis.blpop(["no such list"], timeout=0.01)
    assert isinstance(redis.connection_pool, ConnectionPool)
    assert sum(count for count, _ in redis.connection_pool.get_connection_count()) == 1
    await redis.aclose()


def private_names(path: Path) -> Iterator[str]:
    """Attributes with a private name of anything but `self` and `cls`, and those that getattr() is asked for."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case (
                ast.Attribute(attr=name) | ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_])
            ):
                if isinstance(name, str) and name.startswith("_") and not name.startswith("__"):
                    yield f"{path.name}: {name}"


def test_no_other_module_of_the_client_touches_a_private_name() -> None:
    found = {name for path in CLIENT.glob("*.py") if path.name != "redispy.py" for name in private_names(path)}
    assert found == set()
    assert list(private_names(Path(redispy.__file__)))
