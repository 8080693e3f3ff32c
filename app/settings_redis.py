"""REDIS_URL in parts, for a platform that hands out a host and a password separately, and which of them apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field

from app.setting_types import Host, Hosts
from app.variables import FromVariables, Variables

_COMMON = {"REDIS_DB", "REDIS_PASSWORD", "REDIS_SSL"}
# What names a server, and the parts that apply beside it. The environment goes first, and then this order.
_NAMING = {
    "REDIS_URL": set[str](),
    "REDIS_SENTINEL_HOSTS": {"REDIS_SENTINEL_HOSTS", "REDIS_SENTINEL_MASTER", *_COMMON},
    "REDIS_HOST": {"REDIS_HOST", "REDIS_PORT", *_COMMON},
}


class RedisParts(FromVariables):
    """The parts, and the URL that they make."""

    redis_host: Host = ""
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_db: int = Field(default=0, ge=0)
    redis_password: str = Field(default="", repr=False)
    redis_ssl: bool = False
    redis_sentinel_hosts: Hosts = ""
    redis_sentinel_master: str = "mymaster"

    @property
    def url(self) -> str:
        credentials = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        scheme = "rediss" if self.redis_ssl else "redis"
        if self.redis_sentinel_hosts:
            master = quote(self.redis_sentinel_master, safe="")
            return f"{scheme}+sentinel://{credentials}{self.redis_sentinel_hosts}/{master}/{self.redis_db}"
        return f"{scheme}://{credentials}{self.redis_host}:{self.redis_port}/{self.redis_db}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The parts that make REDIS_URL (none: it is not made of parts), where they come from, and what has no effect."""

    values: Mapping[str, Any]
    source: str
    warnings: tuple[str, ...]


def choose_parts(found: Variables) -> Choice:
    """The first variable that names a server decides: one in the environment before any in `.env`."""
    naming = next((name for place in (found.environment, found.file) for name in _NAMING if name in place), None)
    parts = found.of(RedisParts)
    used = {name: value for name, value in parts.items() if naming and name in _NAMING[naming]}
    given = [*(["REDIS_URL"] if "REDIS_URL" in found.environment.keys() | found.file.keys() else []), *parts]
    reason = f"beside {naming}" if naming else "without REDIS_HOST or REDIS_SENTINEL_HOSTS"
    warnings = (
        f"{name} ({found.source_of(name)}) has no effect {reason}"
        for name in given
        if name not in used and name != naming
    )
    places = ", ".join(sorted({found.source_of(name) for name in used}))
    return Choice(used, f"{', '.join(used)} ({places})", tuple(warnings))
