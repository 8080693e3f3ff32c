"""Clients that reset their connections in the middle of a POST: the writes of others go on."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator

import httpx
import pytest

from app.domain.users.service import register_user
from tests.served import Served

# SO_LINGER with no time: closing sends a reset.
AT_ONCE = struct.pack("ii", 1, 0)
POSTS, SIDE_BY_SIDE = 200, 10
# Far less than the time for which a lock is waited for.
SECONDS = 20


@pytest.fixture
async def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("app.factory.DEFAULT_LIMIT", "1000000/minute")
    waits = {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "60", "DATABASE_POOL_TIMEOUT_SECONDS": "60"}
    server = Served({"ENVIRONMENT": "testing", "DATABASE_URL": database_url, "CONSUMER": "0", **waits})
    await server.start()
    yield server
    await server.stop()


async def post_and_reset(port: int, request: bytes, *, after_seconds: float) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(after_seconds)
    connected: socket.socket = writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    writer.transport.abort()


def raw(session: str, body: bytes) -> bytes:
    head = (
        "POST /api/v1/articles HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Session-ID: {session}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.long)])
async def test_resets_stop_no_write(server: Served, rounds: int) -> None:
    made = server.resources
    user = await register_user(made, email="ada@example.org", name="Ada", password="correct horse battery")
    session = (await made.sessions.create({}, channel="header", user_id=user.id)).id
    chance = random.Random(3)
    draft = {"title": "Title", "content": "Text."}
    request = raw(session, json.dumps(draft).encode())
    async with httpx.AsyncClient(headers={"X-Session-ID": session}, timeout=SECONDS) as client:
        for _ in range(rounds):
            for _ in range(0, POSTS, SIDE_BY_SIDE):
                resets = (
                    post_and_reset(server.port, request, after_seconds=chance.uniform(0, 0.02))
                    for _ in range(SIDE_BY_SIDE)
                )
                await asyncio.gather(*resets)
            for _ in range(3):
                assert (await client.post(server.url("/api/v1/articles"), json=draft)).status_code == 201
        listed = (await client.get(server.url("/api/v1/articles"))).json()
    # What was committed is all there, and what was not is not.
    assert 3 * rounds <= listed["total"] <= (POSTS + 3) * rounds
