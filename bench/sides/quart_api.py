"""Bare routes of Quart in the connections of `quartet serve`: no Redis, no limit, no cache, no session."""

import asyncio
import os
from typing import Any, cast
from uuid import uuid4

import uvloop
from hypercorn.config import Config
from quart import Quart, request

from app.serving.engine import CONFIG_FILE
from app.serving.limits import Limits
from app.serving.sockets import listening
from app.serving.worker import Serving, serve
from bench.api_pages import USER, page

app = Quart("bench")


@app.get("/cached")
async def bare() -> dict[str, Any]:
    return page()


@app.post("/session")
async def begin() -> tuple[str, int]:
    return "", 204


@app.get("/session")
async def of_session() -> dict[str, Any]:
    return {"user": USER, "page": page()}


@app.post("/records")
async def write() -> tuple[dict[str, Any], int]:
    sent = await request.get_json()
    return {"id": uuid4().hex, "title": str(sent["title"]), "content": str(sent["content"])}, 201


async def main() -> None:
    config = Config.from_toml(CONFIG_FILE)
    config.accesslog = config.errorlog = None
    plain = [listening(os.environ["BIND"])]
    await serve(Serving(cast(Any, app), config, Limits(), plain=plain), asyncio.Event())


if __name__ == "__main__":
    uvloop.run(main())
