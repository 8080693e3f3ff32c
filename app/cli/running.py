"""What the subcommands share: a loop for a coroutine, and what they refuse."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import click
import uvloop

from app.errors import AppError
from app.kit.client.errors import UNAVAILABLE
from app.settings import Settings

REFUSED_OR_DOWN: tuple[type[Exception], ...] = (AppError, *UNAVAILABLE)


def run_to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end. What a service refuses, and a backend that is down, is one line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(coroutine)
        except REFUSED_OR_DOWN as error:
            raise click.ClickException(str(error)) from error


def refuse_production(settings: Settings) -> None:
    if settings.is_production:
        raise click.ClickException("demo data has no place in production (ENVIRONMENT=production)")


def refuse_embedded(settings: Settings, reason: str) -> None:
    if settings.uses_embedded_redis:
        raise click.ClickException(f"REDIS_URL is memory://, and {reason}")
