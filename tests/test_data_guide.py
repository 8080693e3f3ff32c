"""The examples of docs/data.md do what it says, on both databases."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from app.db.database import Database
from app.errors import Conflict
from app.kit.keys import Keys
from tests.test_outbox import outbox_on

DOCUMENT = Path(__file__).parent.parent / "docs" / "data.md"


@pytest.fixture
def names() -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "data"}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        exec(compile(code, DOCUMENT.name, "exec"), found)  # noqa: S102
    return found


async def test_a_write_and_what_it_tells_are_one(
    names: dict[str, Any], database: Database, redis: Redis, keys: Keys
) -> None:
    outbox = outbox_on(redis, keys, database)
    resources = SimpleNamespace(database=database, outbox=outbox)
    await names["register"](resources, "ada@example.org")
    assert await names["how_many"](resources) == 1
    await outbox.drain()
    assert await redis.xlen(keys.event_stream("broadcast")) == 1
    with pytest.raises(Conflict):
        await names["register"](resources, "ada@example.org")
    await outbox.drain()
    assert await names["how_many"](resources) == 1
    assert await redis.xlen(keys.event_stream("broadcast")) == 1
