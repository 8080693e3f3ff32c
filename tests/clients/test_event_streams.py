"""curl, httpx-sse and npm's eventsource: events, their ids, and a server that restarts."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from app.kit.events import sse
from app.kit.events.publisher import Publisher
from tests.clients.restarts import Heard, is_ready, publish_some, while_restarting
from tests.served import Served
from tests.services import binary
from tests.waiting import eventually

EVENTSOURCE = "eventsource@4.0.0"
# Prints each event as a line of JSON; sends no credential, because a visitor may hear the broadcast.
NODE_CLIENT = """
import { EventSource } from "eventsource"
const source = new EventSource(process.argv[2])
const print = (event) => console.log(JSON.stringify([event.type, event.lastEventId, JSON.parse(event.data).data]))
source.addEventListener("tick", print)
source.addEventListener("resync", print)
source.addEventListener("open", () => console.log(JSON.stringify(["open"])))
"""


@asynccontextmanager
async def printed(*command: str, folder: Path) -> AsyncIterator[list[str]]:
    """What a program prints, line by line, until the block ends it."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=folder)
    lines: list[str] = []
    assert process.stdout is not None

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            lines.append(line.decode().rstrip("\n"))

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def test_curl_prints_the_stream_as_it_comes_and_resumes(
    server: Served, publisher: Publisher, tmp_path: Path
) -> None:
    command = [binary("curl"), "--silent", "--no-buffer", "--include"]
    async with printed(*command, server.url(), folder=tmp_path) as lines:
        await eventually(lambda: any(line.startswith("id: ") for line in lines))
        assert lines[0].startswith("HTTP/1.1 200")
        first, second = await publish_some(publisher, 0, 2)
        await eventually(lambda: f"id: {second[0]}" in lines)
        assert lines.index(f"id: {first[0]}") < lines.index(f"id: {second[0]}")
    async with printed(*command, "-H", f"Last-Event-ID: {first[0]}", server.url(), folder=tmp_path) as lines:
        await eventually(lambda: f"id: {second[0]}" in lines)
        assert f"id: {first[0]}" not in lines


async def test_curl_asks_for_the_head(server: Served, tmp_path: Path) -> None:
    async with printed(binary("curl"), "--silent", "--head", server.url(), folder=tmp_path) as lines:
        await eventually(lambda: any(line.strip() == "" for line in lines))
        assert lines[0].startswith("HTTP/1.1 200")
        assert "content-type: text/event-stream; charset=utf-8" in [line.strip().lower() for line in lines]


async def test_httpx_sse_resumes_after_a_restart(server: Served, publisher: Publisher) -> None:
    seen: list[Heard] = []
    last_event_id = ""

    async def listen() -> None:
        nonlocal last_event_id
        async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=None)) as client:
            while True:
                try:
                    async with aconnect_sse(
                        client, "GET", server.url(), headers={"Last-Event-ID": last_event_id}
                    ) as source:
                        async for event in source.aiter_sse():
                            last_event_id = event.id
                            if event.event == "tick":
                                seen.append((event.id, event.json()["data"]))
                except httpx.TransportError:
                    await asyncio.sleep(0.01)

    listening = asyncio.create_task(listen())
    await eventually(lambda: last_event_id)

    async def heard() -> list[Heard]:
        return seen

    await while_restarting(server, publisher, heard)
    listening.cancel()


@pytest.mark.long
async def test_npm_eventsource_resumes_after_a_restart(
    server: Served, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "RETRY_MS", (50, 100))
    node, npm = binary("node"), binary("npm")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", EVENTSOURCE]
    process = await asyncio.create_subprocess_exec(
        *install, cwd=tmp_path, env={**os.environ, "npm_config_cache": str(tmp_path / "cache")}
    )
    if await process.wait() != 0:
        pytest.skip("npm cannot install eventsource here (no registry)")
    (tmp_path / "client.mjs").write_text(NODE_CLIENT)
    async with printed(node, "client.mjs", server.url(), folder=tmp_path) as lines:
        await eventually(lambda: lines, seconds=30)

        async def heard() -> list[Heard]:
            return [(entry[1], entry[2]) for entry in map(json.loads, lines) if entry[0] != "open"]

        await eventually(lambda: is_ready(publisher, heard))
        await while_restarting(server, publisher, heard)
        assert [json.loads(line) for line in lines].count(["open"]) >= 2
