"""README's walk, taken by its own commands on a served process."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.commands import serving
from tests.databases import create_postgres
from tests.readme import Step, Terminal, terminal, walk
from tests.services import RedisServer
from tests.waiting import eventually

TITLE = "Four instruments, one loop"


@pytest.fixture(params=["embedded", pytest.param("servers", marks=[pytest.mark.server, pytest.mark.postgres])])
def deployment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each deployment that README names."""
    if request.param == "embedded":
        found: dict[str, str] = request.getfixturevalue("embedded")
        return found
    redis: RedisServer = request.getfixturevalue("redis_server")
    return {
        "REDIS_URL": redis.url,
        "DATABASE_URL": create_postgres(request.getfixturevalue("postgres_url"), template="template1"),
        "NAMESPACE": "walk",
        # The walk is not about a Redis that is slow, which on a busy machine it may be.
        "REDIS_BUDGET_MS": "5000",
    }


def documents(printed: str) -> list[Any]:
    """The JSON documents that commands printed one after another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(printed):
        value, at = decoder.raw_decode(printed, at)
        found.append(value)
        while printed[at : at + 1].isspace():
            at += 1
    return found


async def test_readme_walk(deployment: dict[str, str], tmp_path: Path) -> None:
    with serving(deployment, tmp_path) as (_, port):
        steps = walk(served_at=f"127.0.0.1:{port}")
        assert sorted(steps) == list(range(1, 8))
        async with terminal() as first, terminal() as second:
            await check_account(first, steps[1])
            second.start(steps[2].second)
            await second.until(":")
            await check_write(first, steps[3])
            await second.until("event: article_created")
            await second.until("event: article_processed")
            await check_processed(first, steps[4])
            await check_limit(first, steps[5])
            await check_logout(first, steps[6])


async def check_account(shell: Terminal, step: Step) -> None:
    account, profile = documents(await shell.run(step.first))
    assert (account["email"], account["name"]) == ("ada@example.com", "Ada")
    assert (profile["user_id"], profile["name"]) == (account["id"], "Ada")
    session, key = (await shell.run('echo "$SESSION"; echo "$KEY"')).split()
    assert len(session) >= 43
    assert len(key) >= 43


async def check_write(shell: Terminal, step: Step) -> None:
    before, after = documents(await shell.run(step.first))
    assert TITLE not in [article["title"] for article in before["articles"]]
    assert after["articles"][0]["title"] == TITLE
    assert after["total"] == before["total"] + 1
    assert (await shell.run('echo "$ARTICLE"')).strip() == str(after["articles"][0]["id"])


async def check_processed(shell: Terminal, step: Step) -> None:
    # Demo articles are processed at the same time: the event that was seen may be of one of them.
    async def article() -> Any:
        (found,) = documents(await shell.run(step.first))
        assert found["title"] == TITLE
        return found

    async def is_processed() -> bool:
        return bool((await article())["summary"])

    await eventually(is_processed)
    assert "quartet" in (await article())["keywords"]


async def check_limit(shell: Terminal, step: Step) -> None:
    printed = await shell.run(step.first)
    assert re.findall(r"^HTTP/1.1 (\d+)", printed, re.MULTILINE) == ["401"] * 5 + ["429"]
    last = printed[printed.rindex("HTTP/1.1 429") :].lower()
    assert 1 <= int(re.search(r"^retry-after: (\d+)", last, re.MULTILINE)[1]) <= 60  # type: ignore[index]
    for header in ("x-ratelimit-limit: 5", "x-ratelimit-remaining: 0", "x-ratelimit-reset: ", "ratelimit-policy: "):
        assert header in last


async def check_logout(shell: Terminal, step: Step) -> None:
    status, _, problem = (await shell.run(step.first)).partition("\n")
    assert status == "204"
    assert json.loads(problem)["status"] == 401
