"""quartet shell: a Python prompt with the resources open."""

import ast
import asyncio
import builtins
import code
import inspect
import sys
from types import FunctionType
from typing import Any

import click

from app.cli.running import run_to_end
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.settings import Settings

BANNER = "`resources` and `settings` are open, and `await` works at the prompt. Ctrl-D ends it."


@click.command()
@click.pass_obj
def shell(settings: Settings) -> None:
    """Open a Python prompt with the resources of the service."""
    run_to_end(_run(settings))


class Prompt(code.InteractiveConsole):
    """Runs in a thread; what it awaits runs in the loop of the resources."""

    def __init__(self, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        # exec() would add them; warnings looks for them.
        super().__init__({"__name__": "__console__", "__builtins__": builtins, **names})
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._loop = loop

    def runcode(self, code: Any) -> None:
        function = FunctionType(code, self.locals)
        try:
            result = function()
            if inspect.iscoroutine(result):
                asyncio.run_coroutine_threadsafe(result, self._loop).result()
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()


async def _run(settings: Settings) -> None:
    async with open_resources(settings, role="shell", telemetry=NoTelemetry()) as resources:
        prompt = Prompt({"resources": resources, "settings": settings, "asyncio": asyncio}, asyncio.get_running_loop())
        banner = BANNER if sys.stdin.isatty() else ""
        await asyncio.to_thread(prompt.interact, banner, "")
        # What was committed at the prompt is sent as a request's is.
        await resources.outbox.drain()
