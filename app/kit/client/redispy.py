"""The one module that uses what redis-py does not document as its interface, each use with its reason.

A test compares VERIFIED_VERSION with the installed version, and each name with the shape that is used here.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.typing import EncodableT

from app.kit.client.url import Address

VERIFIED_VERSION = "8.1.0"

# Each of these would cost a round trip of the handshake.
SHORT_HANDSHAKE: dict[str, Any] = {
    "driver_info": None,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


class BufferedReply:
    """A connection whose reply has been read already, so that redis-py's parse_response() makes a result of it."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def read_response(self, **_: Any) -> Any:
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply


def stream_reader(connection: AbstractConnection) -> asyncio.StreamReader:
    """The pipeline reads replies in bulk: read_response() passes each through three coroutines."""
    reader: asyncio.StreamReader = getattr(connection, "_reader")  # noqa: B009  the types do not declare it
    return reader


def stream_writer(connection: AbstractConnection) -> asyncio.StreamWriter:
    """The pipeline writes without send_packed_command(), and looks at how much has not been sent yet."""
    writer: asyncio.StreamWriter = getattr(connection, "_writer")  # noqa: B009  the types do not declare it
    return writer


def error_parser(connection: AbstractConnection) -> Callable[[str], Exception]:
    """Makes of the text of an error reply the exception that redis-py has for it."""
    parse: Callable[[str], Exception] = getattr(connection, "_parser").parse_error  # noqa: B009
    return parse


async def read_reply(connection: AbstractConnection) -> Any:
    """The next reply; an error reply is returned, not raised.

    Not the connection's own read_response(): with sentinels it takes READONLY for a lost connection.
    """
    try:
        return await AbstractConnection.read_response(connection, disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:
        return error


class ClusterBase(RedisCluster):
    """RedisCluster's private parts under public names, for PipelinedCluster, which replaces its routing."""

    def __init__(self, *, seeds: Sequence[Address], **options: Any) -> None:
        super().__init__(startup_nodes=[ClusterNode(host, port) for host, port in seeds], **options)

    def node_flag(self, command: str) -> str | None:
        """Which nodes redis-py sends the command to; None for a command that its key routes."""
        return cast("str | None", self.command_flags.get(command))

    async def parse_reply(self, reply: Any, command: str, options: Mapping[str, Any]) -> Any:
        """What redis-py makes of one node's reply."""
        result = await self.startup_nodes[0].parse_response(cast(Any, BufferedReply(reply)), command, **options)
        if (merge := self.result_callbacks.get(command)) is not None:
            # redis-py merges the results of the nodes that were asked; here it was one.
            return merge(command, {"": result}, **options)
        return result

    def make_connection(self, address: Address) -> AbstractConnection:
        """An unconnected connection, with the options that redis-py made for the nodes."""
        node = self.startup_nodes[0]
        host, port = address
        return node.connection_class(**node.connection_kwargs | {"host": host, "port": port})

    def count_node_connections(self) -> int:
        """How many connections redis-py has for what does not go by the pipelines; it has no public counter."""
        return sum(len(node._connections) for node in self.nodes_manager.nodes_cache.values())

    async def close_nodes(self) -> None:
        """Close what aclose() leaves open: after an error redis-py regards itself as not initialized."""
        for nodes in ("nodes_cache", "startup_nodes"):
            with suppress(RedisError, OSError):
                await self.nodes_manager.aclose(nodes)

    async def _execute_pipeline_by_slot(  # type: ignore[override]
        self, command: str, slots_to_args: Mapping[int, Iterable[EncodableT]]
    ) -> list[Any]:
        # delete(), unlink(), exists() and touch() end here. redis-py sends a pipeline a node on connections of its own.
        return await asyncio.gather(*(self.execute_command(command, *args) for args in slots_to_args.values()))
