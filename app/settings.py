"""Settings, read once from the environment, validated all at once, frozen."""

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

DEVELOPMENT_SECRET_KEY = "development-only-and-refused-in-production"  # noqa: S105  it protects nothing
SECRET_KEY_LENGTH = 32
DEFAULT_BIND = "127.0.0.1:8000"
REDIS_SCHEMES = (
    "memory",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
# A name or an IPv4 address, or an IPv6 address in brackets.
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])"
DATABASE_SCHEMES = ("sqlite+aiosqlite", "postgresql+asyncpg")


class SettingsError(Exception):
    """Every problem found in the environment, one line each, each naming its variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _scheme_in(schemes: tuple[str, ...]) -> AfterValidator:
    def check(url: str) -> str:
        if url.split(":", 1)[0] not in schemes:
            # The URL itself may hold a password, so the message never repeats it.
            raise ValueError(f"must start with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
        return url

    return AfterValidator(check)


def _address(value: str) -> str:
    if value.startswith("unix:"):
        return value
    found = re.fullmatch(rf"{_HOST}:(\d{{1,5}})", value)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("must be host:port with a port from 1 to 65535, or unix:/a/path")
    return value


def _database(url: str) -> str:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # Its text would repeat the URL, and so the password.
        raise ValueError("is not a database URL: a part of it, such as the port, cannot be read") from error
    if parsed.drivername.startswith("sqlite") and parsed.database in {None, "", ":memory:"}:
        raise ValueError("must name a file: each connection to an in-memory SQLite has a database of its own")
    return url


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value, strict=False))


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value):
        raise ValueError("must be 1 to 32 of a-z, 0-9, - and _")
    return value


CommaList = Annotated[tuple[str, ...], BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]


DatabaseURL = Annotated[str, _scheme_in(DATABASE_SCHEMES), AfterValidator(_database)]


class Settings(BaseModel):
    """One field a variable: `redis_url` is read from REDIS_URL, and so on. docs/settings.md describes each."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    environment: Literal["development", "testing", "production"] = "development"
    secret_key: str = Field(default=DEVELOPMENT_SECRET_KEY, repr=False)
    bind: Annotated[str, AfterValidator(_address)] = DEFAULT_BIND
    workers: int = Field(default=1, ge=1, le=64)
    public_url: str = Field(default=f"http://{DEFAULT_BIND}", pattern=rf"^https?://{_HOST}(:\d{{1,5}})?$")
    allowed_hosts: Annotated[CommaList, BeforeValidator(_lower)] = ()
    trusted_proxies: Networks = ()
    trusted_hops: int = Field(default=0, ge=0, le=16)
    trusted_header: Annotated[Literal["x-forwarded-for", "forwarded"], BeforeValidator(_lower)] = "x-forwarded-for"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    metrics_token: str = Field(default="", repr=False)

    redis_url: Annotated[str, _scheme_in(REDIS_SCHEMES)] = Field(default="memory://", repr=False)
    cache_redis_url: Annotated[str, _scheme_in(REDIS_SCHEMES)] = Field(default="", repr=False)
    allow_embedded_redis: bool = False
    namespace: Annotated[str, AfterValidator(_namespace)] = "quartet"
    redis_budget_ms: int = Field(default=250, ge=10, le=60_000)

    database_url: DatabaseURL = Field(default="sqlite+aiosqlite:///var/quartet.db", repr=False)
    database_replica_url: DatabaseURL = Field(default="", repr=False)
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    database_max_overflow: int = Field(default=20, ge=0, le=1000)

    session_idle_seconds: int = Field(default=86_400, ge=60)
    session_absolute_seconds: int = Field(default=30 * 86_400, ge=60)
    sessions_per_user: int = Field(default=20, ge=1, le=1000)
    max_body_bytes: int = Field(default=1 << 20, ge=1024)

    consumer: bool = True
    worker_concurrency: int = Field(default=16, ge=1, le=1000)
    task_lease_seconds: float = Field(default=30, ge=1, le=3600)
    task_grace_seconds: float = Field(default=10, ge=0, le=50)
    drain_seconds: float = Field(default=1, ge=0, le=3600)
    max_streams: int = Field(default=10_000, ge=1)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that this server answers for, besides loopback ones."""
        return (urlsplit(self.public_url).hostname or "", *self.allowed_hosts)

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def uses_embedded_redis(self) -> bool:
        return self.redis_url.startswith("memory:")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment (or `environ`) into Settings. SettingsError lists everything that is wrong."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {
        name: environ[name.upper()] for name in Settings.model_fields if environ.get(name.upper())
    }
    problems = []
    if "redis_url" not in values:
        try:
            values |= _redis_url_from_parts(environ)
        except ValueError as error:
            problems.append(str(error))
    # Where nothing says otherwise, links lead to the address that is served.
    bind = values.get("bind", DEFAULT_BIND)
    defaults = {} if bind.startswith("unix:") else {"public_url": f"http://{bind}"}
    try:
        settings = Settings.model_validate({**defaults, **values})
    except ValidationError as error:
        problems += [f"{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
    problems += _cross_checks(values)
    if problems:
        raise SettingsError(problems)
    return settings


def _redis_url_from_parts(environ: Mapping[str, str]) -> dict[str, str]:
    """REDIS_HOST, REDIS_PORT, REDIS_DB, REDIS_PASSWORD, REDIS_SSL and REDIS_SENTINEL_* as one URL."""
    hosts, host = environ.get("REDIS_SENTINEL_HOSTS", ""), environ.get("REDIS_HOST", "")
    if not hosts and not host:
        return {}
    port, database = environ.get("REDIS_PORT") or "6379", environ.get("REDIS_DB") or "0"
    for name, value in (("REDIS_PORT", port), ("REDIS_DB", database)):
        if not value.isdecimal():
            raise ValueError(f"{name}: must be a whole number")
    password = environ.get("REDIS_PASSWORD", "")
    credentials = f":{quote(password, safe='')}@" if password else ""
    scheme = "rediss" if environ.get("REDIS_SSL", "").lower() in {"1", "true", "yes", "on"} else "redis"
    if hosts:
        master = environ.get("REDIS_SENTINEL_MASTER") or "mymaster"
        return {"redis_url": f"{scheme}+sentinel://{credentials}{hosts}/{master}/{database}"}
    return {"redis_url": f"{scheme}://{credentials}{host}:{port}/{database}"}


def _cross_checks(values: Mapping[str, Any]) -> list[str]:
    """Rules over several variables. They read raw values, so that they report beside the fields' own errors."""
    problems = []
    embedded = values.get("redis_url", "memory://").startswith("memory:")
    workers = str(values.get("workers", "1"))
    if embedded and workers.isdecimal() and int(workers) > 1:
        problems.append(
            "WORKERS: more than one needs a Redis server: memory:// lives in one process, "
            "so each worker would have sessions, limits and tasks of its own"
        )
    if values.get("environment") != "production":
        return problems
    secret = values.get("secret_key", "")
    if not secret:
        problems.append("SECRET_KEY: must be set in production")
    elif secret == DEVELOPMENT_SECRET_KEY:
        problems.append("SECRET_KEY: is the development default")
    elif len(secret) < SECRET_KEY_LENGTH:
        problems.append(f"SECRET_KEY: must have at least {SECRET_KEY_LENGTH} characters")
    allowed = str(values.get("allow_embedded_redis", "")).lower() in {"1", "true", "yes", "on", "t", "y"}
    if embedded and not allowed:
        problems.append("REDIS_URL: memory:// forgets everything at exit; name a server, or set ALLOW_EMBEDDED_REDIS=1")
    if not values.get("public_url"):
        problems.append("PUBLIC_URL: must be set in production: links and the hosts that are answered come from it")
    return problems
