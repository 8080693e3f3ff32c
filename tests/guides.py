"""The examples of the guides in docs/, run as one module, and as parts of a running application."""

import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from quart import Quart

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.kit.tasks.task import Task
from app.settings import load_settings

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def guide_text(name: str) -> str:
    """The text of docs/`name`."""
    return (DOCS / name).read_text()


def names_of_examples(name: str) -> dict[str, Any]:
    """What the examples of docs/`name` define, one after the other in one module."""
    names: dict[str, Any] = {"__name__": "guide"}
    for number, example in enumerate(EXAMPLE.findall(guide_text(name))):
        exec(compile(example, f"{name}, example {number}", "exec"), names)  # noqa: S102
    return names


def tasks_of(guide: dict[str, Any]) -> list[Task[Any]]:
    return [value for value in guide.values() if isinstance(value, Task)]


@asynccontextmanager
async def serving_examples(
    examples: Sequence[Slice], *, database: Path, namespace: str, **settings: str
) -> AsyncIterator[Quart]:
    """The service with these slices beside its own, on a copy of the SQLite file `database`."""
    copy = database.with_name(f"{namespace}.db")
    shutil.copy(database, copy)
    environ = {"NAMESPACE": namespace, "DATABASE_URL": f"sqlite+aiosqlite:///{copy}", **settings}
    app = create_app(load_settings(environ), slices=(*SLICES, *examples))
    async with app.test_app():
        yield app
