"""README's own commands, and terminals in which the tests give them."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SERVED_AT = "127.0.0.1:8000"
_STEP = re.compile(r"^### (\d)\. .*?$(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh( terminal-2)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """The commands of one step of the walk, for the first terminal and for the second."""

    first: str
    second: str


def walk(*, served_at: str) -> dict[int, Step]:
    """The steps of README's walk by their numbers, speaking to `served_at` (host:port)."""
    text = README.read_text().replace(SERVED_AT, served_at)
    steps = {}
    for number, body in _STEP.findall(text):
        blocks = _BLOCK.findall(body)
        steps[int(number)] = Step(
            first="".join(commands for second, commands in blocks if not second),
            second="".join(commands for second, commands in blocks if second),
        )
    return steps


def deletion() -> str:
    """The commands by which README deletes the example."""
    (commands,) = re.findall(r"^```sh delete\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(commands)


class Terminal:
    """A shell that keeps its variables from one command to the next."""

    MARK = "--- end of the command ---"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, commands: str) -> str:
        """What the commands print, errors included, when all of them have ended."""
        self.start(f"{commands}\necho '{self.MARK}'\n")
        return (await self.until(f"{self.MARK}\n")).removesuffix(f"{self.MARK}\n")

    def start(self, commands: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(commands.encode())

    async def until(self, text: str, *, seconds: float = 20) -> str:
        """What is printed up to and including `text`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            return (await self._process.stdout.readuntil(text.encode())).decode()

    async def rest(self, *, seconds: float) -> str:
        """What is still printed until the program ends, which it must within `seconds`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            return (await self._process.stdout.read()).decode()


@asynccontextmanager
async def terminal(*program: str, environment: dict[str, str] | None = None) -> AsyncIterator[Terminal]:
    """A fresh shell, or another program. What it still runs at the end is ended with it."""
    process = await asyncio.create_subprocess_exec(
        *(program or ("bash",)),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        process_group=0,
        limit=1 << 20,
        cwd=ROOT,
    )
    try:
        yield Terminal(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()
