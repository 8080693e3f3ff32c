"""Flask with the patterns that guides to Redis teach, and no extension, on gunicorn.

A pool of connections, a limiter in a sorted set, a cache of JSON with tags, sessions behind a header.
"""

import json
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, jsonify, request
from redis import BlockingConnectionPool, Redis

from bench.api_pages import PER_SECOND, RECORD_TTL_SECONDS, REDIS_URL, TTL_SECONDS, USER, page

View = Callable[..., Any]
SESSION_SECONDS = 86_400
app = Flask("bench")
# It waits for a connection: one that refuses would fail where more requests come at once than it has connections.
pool = BlockingConnectionPool.from_url(REDIS_URL, max_connections=20, decode_responses=True, socket_timeout=5)


@app.before_request
def connect() -> None:
    g.redis = Redis(connection_pool=pool)


def limited(view: View) -> View:
    """PER_SECOND requests of an address in any second, each an entry of a sorted set."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Response:
        key, now = f"limit:{request.remote_addr}", time.time()
        pipeline = g.redis.pipeline()
        pipeline.zremrangebyscore(key, 0, now - 1)
        pipeline.zcard(key)
        pipeline.zadd(key, {str(now): now})
        pipeline.expire(key, 1)
        count = pipeline.execute()[1]
        oldest = g.redis.zrange(key, 0, 0, withscores=True)
        if count >= PER_SECOND:
            response = jsonify(error="Rate limit exceeded")
            response.status_code = 429
        else:
            response = app.make_response(view(*args, **kwargs))
        response.headers["X-RateLimit-Limit"] = str(PER_SECOND)
        response.headers["X-RateLimit-Remaining"] = str(max(0, PER_SECOND - count - 1))
        response.headers["X-RateLimit-Reset"] = str(int((oldest[0][1] if oldest else now) + 1))
        return response

    return wrapper


def authenticated(view: View) -> View:
    """Reads the session that the header names, and stores when it was last active."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = f"session:{request.headers.get('X-Session-ID')}"
        found = g.redis.get(key)
        if found is None:
            return {"error": "Invalid or expired session"}, 401
        g.session = json.loads(found) | {"last_activity": time.time()}
        g.redis.setex(key, SESSION_SECONDS, json.dumps(g.session))
        return view(*args, **kwargs)

    return wrapper


def read_page(key: str) -> dict[str, Any]:
    found = g.redis.get(key)
    if found is not None:
        stored: dict[str, Any] = json.loads(found)
        return stored
    made = page()
    g.redis.setex(key, TTL_SECONDS, json.dumps(made))
    g.redis.sadd("cache_tag:records", key)
    g.redis.expire("cache_tag:records", TTL_SECONDS + 60)
    return made


@app.get("/cached")
@limited
def cached() -> dict[str, Any]:
    return read_page("page:cached")


@app.post("/session")
def begin() -> Response:
    session_id = str(uuid4())
    g.redis.setex(f"session:{session_id}", SESSION_SECONDS, json.dumps({"user": USER, "last_activity": time.time()}))
    g.redis.sadd(f"user_sessions:{USER['id']}", session_id)
    return Response(status=204, headers={"X-Session-ID": session_id})


@app.get("/session")
@authenticated
@limited
def of_session() -> dict[str, Any]:
    return {"user": g.session["user"], "page": read_page("page:session")}


@app.post("/records")
@limited
def write() -> tuple[dict[str, Any], int]:
    sent = request.get_json()
    record = {"id": uuid4().hex, "title": str(sent["title"]), "content": str(sent["content"])}
    g.redis.setex(f"record:{record['id']}", RECORD_TTL_SECONDS, json.dumps(record))
    return record, 201
