"""The service with tasks that its tests stop it in: an application for Hypercorn, or served as `quartet serve` does."""

import asyncio

from quart import Blueprint

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.serving.engine import serve_one
from app.settings import load_settings

SHORT_SECONDS = 0.5


@task(timeout_seconds=None)
async def short(context: TaskContext) -> str:
    await asyncio.sleep(SHORT_SECONDS)
    return "finished"


@task(timeout_seconds=None)
async def endless(context: TaskContext) -> None:
    await asyncio.Event().wait()


settings = load_settings()
app = create_app(settings, slices=(*SLICES, Slice(blueprint=Blueprint("served", __name__), tasks=(short, endless))))

if __name__ == "__main__":
    serve_one(app, settings)
