"""FastAPI with starsessions, slowapi and fastapi-cache2, on uvicorn."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from pydantic import BaseModel
from redis.asyncio import Redis
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from starsessions import SessionMiddleware, load_session
from starsessions.stores.redis import RedisStore

from bench.api_pages import PER_SECOND, POOLED_URL, RECORD_TTL_SECONDS, TTL_SECONDS, USER, page

redis = Redis.from_url(POOLED_URL)
limiter = Limiter(key_func=get_remote_address, storage_uri=POOLED_URL, strategy="moving-window")
LIMIT = f"{PER_SECOND}/second"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
    FastAPICache.init(RedisBackend(redis), prefix="bench")
    yield


app = FastAPI(lifespan=lifespan, openapi_url=None)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SessionMiddleware, store=RedisStore(connection=redis), cookie_https_only=False)


class Draft(BaseModel):
    title: str
    content: str


class Record(Draft):
    id: str


@cache(expire=TTL_SECONDS)
async def read_page() -> dict[str, Any]:
    return page()


@app.get("/cached")
@limiter.limit(LIMIT)
@cache(expire=TTL_SECONDS)
async def cached(request: Request) -> Any:
    return page()


@app.post("/session", status_code=204)
async def begin(request: Request) -> None:
    await load_session(request)
    request.session["user"] = USER


@app.get("/session")
@limiter.limit(LIMIT)
async def of_session(request: Request) -> Any:
    await load_session(request)
    return {"user": request.session["user"], "page": await read_page()}


@app.post("/records", status_code=201)
@limiter.limit(LIMIT)
async def write(request: Request, draft: Draft) -> Record:
    record = Record(**draft.model_dump(), id=uuid4().hex)
    await redis.set(f"record:{record.id}", record.model_dump_json(), ex=RECORD_TTL_SECONDS)
    return record
