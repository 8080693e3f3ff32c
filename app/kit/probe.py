"""Connecting to a server, and asking whether it serves."""

import math

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, ResponseError

from app.kit.wire import pack


async def connect_and_probe(connection: AbstractConnection, *, must_be_primary: bool) -> None:
    """Raise what says that the server cannot be reached, or answers but does not serve: it loads, or is a replica."""
    await connection.connect()
    await connection.send_packed_command(pack(["PING"]) + pack(["ROLE"]), check_health=False)
    for _ in range(2):
        try:
            reply = await connection.read_response(timeout=math.inf)
        except ResponseError:
            # An answer all the same: the user may not ask, or a proxy does not know.
            continue
        if isinstance(reply, list) and reply[:1] == [b"slave"] and must_be_primary:
            raise ReadOnlyError("the server is a replica")
