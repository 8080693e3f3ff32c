"""The recipe of docs/cache.md for what one user sees: memoized by principal, invalidated by tag."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from app.db.database import Database
from app.kit.cache.cache import Cache
from app.kit.keys import Keys
from app.principal import Principal
from tests.test_outbox import outbox_on

DOCUMENT = Path(__file__).parents[3] / "docs" / "cache.md"


def recipe() -> dict[str, Any]:
    _, _, section = DOCUMENT.read_text().partition("## Private lists")
    found: dict[str, Any] = {"__name__": "private_lists"}
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    exec(compile(code[1], DOCUMENT.name, "exec"), found)  # noqa: S102
    return found


@pytest.mark.server
async def test_principals_share_nothing_and_a_write_is_seen_at_once(
    real_redis: Redis, keys: Keys, database: Database
) -> None:
    cache = Cache(real_redis, keys)
    outbox = outbox_on(real_redis, keys, database)
    resources = SimpleNamespace(cache=cache, database=database, outbox=outbox)
    names = recipe()
    list_drafts, write_draft = names["list_drafts"], names["write_draft"]
    ada, eve = Principal(1, frozenset(), "session"), Principal(2, frozenset(), "session")
    runs: list[int] = []
    plain = list_drafts.uncached

    async def counted(resources: Any, principal: Principal) -> Any:
        runs.append(principal.user_id)
        return await plain(resources, principal)

    list_drafts.uncached = counted
    for _ in range(2):
        assert await list_drafts(resources, ada) == ["drafts of 1"]
        assert await list_drafts(resources, eve) == ["drafts of 2"]
    assert runs == [1, 2]
    await list_drafts(resources, Principal(1, frozenset({"admin"}), "session"))
    assert runs == [1, 2, 1]
    await write_draft(resources, ada)
    await list_drafts(resources, ada)
    await list_drafts(resources, eve)
    assert runs == [1, 2, 1, 1]
