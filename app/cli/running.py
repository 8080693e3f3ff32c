"""What the subcommands share: a loop for a coroutine, and what they refuse."""

import asyncio
import os
import signal
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


def end_at_interrupt() -> None:
    """From now on Ctrl-C ends the process at once and quietly, until a loop has its own handler.

    For a service that starts, when nothing is under way yet. A KeyboardInterrupt would be lost where it is raised in
    what the interpreter calls back, such as a weak reference's callback.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))


def refuse_production(settings: Settings) -> None:
    if settings.is_production:
        raise click.ClickException("demo data has no place in production (ENVIRONMENT=production)")


def refuse_embedded(settings: Settings, reason: str) -> None:
    if settings.uses_embedded_redis:
        raise click.ClickException(f"REDIS_URL is memory://, and {reason}")
