"""Litestar with its own sessions, rate limit and response cache, in its store for Redis, on uvicorn."""

from typing import Any
from uuid import uuid4

import msgspec
from litestar import Litestar, Request, get, post
from litestar.config.response_cache import ResponseCacheConfig
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore
from litestar.stores.registry import StoreRegistry
from redis.asyncio import Redis

from bench.api_pages import PER_SECOND, POOLED_URL, RECORD_TTL_SECONDS, TTL_SECONDS, USER, page

redis = Redis.from_url(POOLED_URL)
root = RedisStore(redis, namespace="bench")
stores = StoreRegistry(default_factory=root.with_namespace)
limit = RateLimitConfig(rate_limit=("second", PER_SECOND)).middleware
session = ServerSideSessionConfig().middleware


class Draft(msgspec.Struct):
    title: str
    content: str


class Record(Draft):
    id: str


async def read_page() -> Any:
    """A page from a store, which is how values other than responses are cached."""
    store = stores.get("pages")
    found = await store.get("page")
    if found is not None:
        return msgspec.json.decode(found)
    made = page()
    await store.set("page", msgspec.json.encode(made), expires_in=TTL_SECONDS)
    return made


@get("/cached", cache=TTL_SECONDS, middleware=[limit])
async def cached() -> dict[str, Any]:
    return page()


@post("/session", middleware=[session], status_code=204)
async def begin(request: Request[Any, Any, Any]) -> None:
    request.set_session({"user": USER})


@get("/session", middleware=[limit, session])
async def of_session(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"user": request.session["user"], "page": await read_page()}


@post("/records", middleware=[limit])
async def write(data: Draft) -> Record:
    record = Record(title=data.title, content=data.content, id=uuid4().hex)
    await redis.set(f"record:{record.id}", msgspec.json.encode(record), ex=RECORD_TTL_SECONDS)
    return record


app = Litestar(
    [cached, begin, of_session, write],
    stores=stores,
    response_cache_config=ResponseCacheConfig(),
    openapi_config=None,
)
