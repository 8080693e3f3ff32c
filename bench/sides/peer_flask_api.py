"""Flask with Flask-Session, Flask-Limiter and Flask-Caching, on gunicorn."""

from typing import Any
from uuid import uuid4

from flask import Flask, request, session
from flask_caching import Cache
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_session import Session
from redis import Redis

from bench.api_pages import PER_SECOND, POOLED_URL, RECORD_TTL_SECONDS, TTL_SECONDS, USER, page

redis = Redis.from_url(POOLED_URL)
app = Flask("bench")
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis, CACHE_TYPE="RedisCache", CACHE_REDIS_URL=POOLED_URL)
Session(app)
cache = Cache(app)
limiter = Limiter(get_remote_address, app=app, storage_uri=POOLED_URL, strategy="moving-window")
LIMIT = f"{PER_SECOND}/second"


@cache.memoize(timeout=TTL_SECONDS)
def read_page() -> dict[str, Any]:
    return page()


@app.get("/cached")
@limiter.limit(LIMIT)
@cache.cached(timeout=TTL_SECONDS)
def cached() -> dict[str, Any]:
    return page()


@app.post("/session")
def begin() -> tuple[str, int]:
    session["user"] = USER
    return "", 204


@app.get("/session")
@limiter.limit(LIMIT)
def of_session() -> dict[str, Any]:
    return {"user": session["user"], "page": read_page()}


@app.post("/records")
@limiter.limit(LIMIT)
def write() -> tuple[dict[str, Any], int]:
    sent = request.get_json()
    record = {"id": uuid4().hex, "title": str(sent["title"]), "content": str(sent["content"])}
    redis.set(f"record:{record['id']}", app.json.dumps(record), ex=RECORD_TTL_SECONDS)
    return record, 201
