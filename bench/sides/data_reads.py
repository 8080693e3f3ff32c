"""Requests that read a large database, one after another: the 99th percentile of each kind, in ms."""

import gc
import itertools
import json
import os
import time
from collections.abc import Callable

import uvloop
from quart import Quart

from app.factory import create_app
from app.resources import Resources
from app.serving.engine import GC_THRESHOLDS
from app.settings import load_settings
from app.web.context import EXTENSION
from bench.asgi_requests import Headers, get
from bench.data import ARTICLES, USERS

REQUESTS = 200
WARM_UP = 20
_numbers = itertools.count()

# What the nth request of a kind asks for: never the same twice, so that no cache has it.
READS: dict[str, Callable[[int], str]] = {
    "list, a page": lambda n: f"/articles?page={1 + n * 37 % (ARTICLES // 20)}",
    "read": lambda n: f"/articles/{1 + n * 7919 % ARTICLES}",
    "search, a rare word": lambda n: f"/search?q=w{5000 + n * 67}",
    "search, the most frequent word": lambda n: f"/search?q=w0&page={1 + n % 50}",
    "search, two words": lambda n: f"/search?q=w0+w{1 + n}",
    "inbox": lambda n: "/messages?limit=50",
    "inbox, an old page": lambda n: f"/messages?before={1 + n * 4999}",
}


async def main() -> None:
    settings = {"ENVIRONMENT": "testing", "TRUSTED_PROXIES": "127.0.0.1", "LOG_LEVEL": "error", **os.environ}
    app = create_app(load_settings(settings))
    async with app.test_app():
        sessions = await _sessions(app)
        # As the server does.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        figures = {}
        for name, ask in READS.items():
            times = [await _time(app, ask(n), sessions[n % USERS]) for n in range(WARM_UP + REQUESTS)]
            figures[f"{name}: p99, ms"] = sorted(times[WARM_UP:])[int(REQUESTS * 0.99) - 1]
        print(json.dumps(figures))


async def _sessions(app: Quart) -> list[str]:
    resources: Resources = app.extensions[EXTENSION]
    await resources.redis.flushdb()
    create = resources.sessions.create
    return [(await create({}, channel="header", user_id=1 + number)).id for number in range(USERS)]


async def _time(app: Quart, target: str, session: str) -> float:
    number = next(_numbers)
    # Lists are read by visitors, each from an address of its own, so that no limit refuses them.
    visitor = {"x-forwarded-for": f"10.0.{number // 250}.{1 + number % 250}"}
    headers: Headers = {"x-session-id": session} if target.startswith("/messages") else visitor
    began = time.perf_counter()
    status, answered = await get(app, f"/api/v1{target}", headers=headers)
    seconds = time.perf_counter() - began
    if status != 200 or "age" in answered:
        raise RuntimeError(f"{target} answered {status} {answered}")
    return seconds * 1000


if __name__ == "__main__":
    uvloop.run(main())
