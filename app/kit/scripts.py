"""Lua scripts: loaded from lua/, run by EVALSHA, sent whole when the server does not know them."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Argument = str | bytes | int | float


@cache
def _source(name: str) -> tuple[str, str]:
    """A script's text and its SHA-1, as EVALSHA wants it."""
    text = resources.files("app.kit").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def run_script(redis: Redis, name: str, *, keys: Sequence[str], args: Sequence[Argument]) -> Any:
    """Run lua/NAME.lua atomically in one round trip; two when the server has lost its scripts (NOSCRIPT).

    EVAL repeats only this script: it did not run when EVALSHA answered NOSCRIPT.
    """
    text, sha = _source(name)
    try:
        return await redis.evalsha(sha, len(keys), *keys, *args)
    except NoScriptError:
        return await redis.eval(text, len(keys), *keys, *args)
