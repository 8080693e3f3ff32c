"""The service with the tests' own slice, and a route that tells how many tasks of asyncio its process has."""

import asyncio

from quart import Blueprint, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.serving.engine import serve_one
from app.settings import load_settings
from app.web.limits.declare import exempt
from tests.notices import SLICE as NOTICES

COUNT = "/asyncio-tasks"
blueprint = Blueprint("soak", __name__)


@blueprint.get(COUNT)
@hide
@exempt("for the test alone")
async def asyncio_tasks() -> ResponseReturnValue:
    return jsonify(len(asyncio.all_tasks()))


if __name__ == "__main__":
    settings = load_settings()
    serve_one(create_app(settings, slices=(*SLICES, NOTICES, Slice(blueprint=blueprint))), settings)
