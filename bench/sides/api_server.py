"""The application with the routes of the API's benchmark, served as `quartet serve` does."""

from typing import Any
from uuid import uuid4

import msgspec
from pydantic import BaseModel
from quart import Blueprint, session
from quart_schema import validate_request

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.kit.cache.memoize import memoize
from app.resources import Resources
from app.serving.engine import serve_one
from app.settings import load_settings
from app.web.caching.cached_view import cached_view
from app.web.context import resources
from app.web.limits.declare import exempt, rate_limit
from bench.api_pages import PER_SECOND, RECORD_TTL_SECONDS, TTL_SECONDS, USER, page

blueprint = Blueprint("bench", __name__)
limited = rate_limit(f"{PER_SECOND}/second", algorithm="counter")


class Draft(BaseModel):
    title: str
    content: str


@memoize(ttl_seconds=TTL_SECONDS, tags="records")
async def read_page(resources: Resources) -> dict[str, Any]:
    return page()


@blueprint.get("/cached")
@limited
@cached_view(TTL_SECONDS, public=True, tags="records")
async def cached() -> dict[str, Any]:
    return page()


@blueprint.post("/session")
@exempt("begins the session of the benchmark, once")
async def begin() -> tuple[str, int]:
    session["user"] = USER
    return "", 204


@blueprint.get("/session")
@limited
async def of_session() -> dict[str, Any]:
    return {"user": session["user"], "page": await read_page(resources())}


@blueprint.post("/records")
@limited
@validate_request(Draft)
async def write(data: Draft) -> tuple[dict[str, Any], int]:
    record = {"id": uuid4().hex, **data.model_dump()}
    key = f"{resources().keys.own('bench')}:{record['id']}"
    await resources().redis.set(key, msgspec.json.encode(record), ex=RECORD_TTL_SECONDS)
    return record, 201


def main() -> None:
    settings = load_settings()
    serve_one(create_app(settings, slices=(*SLICES, Slice(blueprint=blueprint))), settings)


if __name__ == "__main__":
    main()
