"""Lua scripts: loaded from the block that calls them, run by EVALSHA, or by EVAL where the server lacks them."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from app.kit.client.commands import REPEATABLE

Argument = str | bytes | int | float

NEEDS = "-- needs: "


@cache
def _source(name: str) -> tuple[str, str]:
    """A script's text, after that of the one that its first line names, and its SHA-1 for EVALSHA."""
    block, script = name.split("/")
    folder = resources.files("app.kit").joinpath(block, "lua")
    text = folder.joinpath(f"{script}.lua").read_text(encoding="utf-8")
    first, _, _ = text.partition("\n")
    if first.startswith(NEEDS):
        text = folder.joinpath(f"{first.removeprefix(NEEDS)}.lua").read_text(encoding="utf-8") + text
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def run_script(
    redis: Redis, name: str, *, keys: Sequence[str], args: Sequence[Argument], repeatable: bool = False
) -> Any:
    """Run app/kit/BLOCK/lua/SCRIPT.lua, whose `name` is BLOCK/SCRIPT, atomically.

    One round trip; two when the server does not know the script (NOSCRIPT: it did not run). `repeatable`: a second run
    with the same arguments does no harm, so the script may be sent again when its reply was lost.
    """
    text, sha = _source(name)
    options = {REPEATABLE: repeatable}
    try:
        return await redis.execute_command("EVALSHA", sha, len(keys), *keys, *args, **options)
    except NoScriptError:
        return await redis.execute_command("EVAL", text, len(keys), *keys, *args, **options)
