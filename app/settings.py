"""Settings, read once from the environment and a `.env` file, validated all at once, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.setting_types import Address, AnyCase, CommaList, DatabaseURL, Namespace, Networks, Origin, RedisURL
from app.variables import FILE, FILE_ENCODING, BadFile, Variables, read_variables, strangers

DEVELOPMENT_SECRET_KEY = "development-only-and-refused-in-production"  # noqa: S105  public, and refused in production
SECRET_KEY_LENGTH = 32
DEFAULT_BIND = "127.0.0.1:8000"


class SettingsError(Exception):
    """Every problem found in the variables, one line each, each naming its variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _FromVariables(BaseSettings):
    """One field a variable: `redis_url` is REDIS_URL, and so on. Takes only what read_settings() has read."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        alias_generator=str.upper,
        case_sensitive=True,
        env_ignore_empty=True,
        env_file=FILE,
        env_file_encoding=FILE_ENCODING,
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Settings(_FromVariables):
    """Every setting. docs/settings.md describes each."""

    environment: Literal["development", "testing", "production"] = "development"
    secret_key: str = Field(default=DEVELOPMENT_SECRET_KEY, repr=False)
    bind: Address = DEFAULT_BIND
    workers: int = Field(default=1, ge=1, le=64)
    public_url: Origin = f"http://{DEFAULT_BIND}"
    allowed_hosts: Annotated[CommaList, AnyCase] = ()
    trusted_proxies: Networks = ()
    trusted_hops: int = Field(default=0, ge=0, le=16)
    trusted_header: Annotated[Literal["x-forwarded-for", "forwarded"], AnyCase] = "x-forwarded-for"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"
    metrics_token: str = Field(default="", repr=False)

    redis_url: RedisURL = Field(default="memory://", repr=False)
    cache_redis_url: RedisURL = Field(default="", repr=False)
    allow_embedded_redis: bool = False
    namespace: Namespace = "quartet"
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
        """The host names that requests may have, besides loopback ones."""
        return (urlsplit(self.public_url).hostname or "", *self.allowed_hosts)

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def uses_embedded_redis(self) -> bool:
        return self.redis_url.startswith("memory:")


class RedisParts(_FromVariables):
    """REDIS_URL in parts, for a platform that hands out a host and a password separately."""

    redis_host: str = ""
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_db: int = Field(default=0, ge=0)
    redis_password: str = Field(default="", repr=False)
    redis_ssl: bool = False
    redis_sentinel_hosts: str = ""
    redis_sentinel_master: str = "mymaster"

    @property
    def url(self) -> str:
        credentials = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        scheme = "rediss" if self.redis_ssl else "redis"
        if self.redis_sentinel_hosts:
            hosts, master = self.redis_sentinel_hosts, self.redis_sentinel_master
            return f"{scheme}+sentinel://{credentials}{hosts}/{master}/{self.redis_db}"
        return f"{scheme}://{credentials}{self.redis_host}:{self.redis_port}/{self.redis_db}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The settings, the source of each variable that is not its default, and warnings of mistyped names."""

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings alone. Arguments and errors are those of read_settings."""
    return read_settings(environ).settings


def read_settings(environ: Mapping[str, str] | None = None) -> Reading:
    """Read the environment and `.env` in the working directory, or `environ` and nothing else.

    SettingsError lists everything that is wrong.
    """
    problems: list[str] = []
    try:
        found, parts = (read_variables(cls, environ) for cls in (Settings, RedisParts))
    except BadFile as error:
        raise SettingsError([str(error)]) from error
    values, sources = found.values, dict(found.sources)
    if "REDIS_URL" not in values and parts.values.keys() & {"REDIS_HOST", "REDIS_SENTINEL_HOSTS"}:
        try:
            values = {**values, "REDIS_URL": RedisParts.model_validate(parts.values).url}
            sources["REDIS_URL"] = _source_of_parts(parts)
        except ValidationError as error:
            problems += _listed(error)
    # By default links lead to the address that is served.
    bind = values.get("BIND", DEFAULT_BIND)
    defaults = {} if bind.startswith("unix:") else {"PUBLIC_URL": f"http://{bind}"}
    try:
        settings = Settings.model_validate({**defaults, **values})
    except ValidationError as error:
        problems += _listed(error)
    problems += _cross_checks(values)
    if problems:
        raise SettingsError(problems)
    if "BIND" in values and defaults:
        sources.setdefault("PUBLIC_URL", "BIND")
    known = (name.upper() for cls in (Settings, RedisParts) for name in cls.model_fields)
    return Reading(settings, sources, tuple(strangers(set(known), found)))


def _source_of_parts(parts: Variables) -> str:
    return f"{', '.join(parts.values)} ({', '.join(sorted(set(parts.sources.values())))})"


def _listed(error: ValidationError) -> list[str]:
    # The first part is the variable; for a list the index follows.
    return [f"{e['loc'][0]}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]


def _cross_checks(values: Mapping[str, Any]) -> list[str]:
    """Rules over several variables. They read raw values, so that they report beside the fields' own errors."""
    problems = []
    embedded = values.get("REDIS_URL", "memory://").startswith("memory:")
    workers = str(values.get("WORKERS", "1"))
    if embedded and workers.isdecimal() and int(workers) > 1:
        problems.append(
            "WORKERS: more than one needs a Redis server: memory:// lives in one process, "
            "so each worker would have sessions, limits and tasks of its own"
        )
    if values.get("ENVIRONMENT") != "production":
        return problems
    secret = values.get("SECRET_KEY", "")
    if not secret:
        problems.append("SECRET_KEY: must be set in production")
    elif secret == DEVELOPMENT_SECRET_KEY:
        problems.append("SECRET_KEY: is the development default")
    elif len(secret) < SECRET_KEY_LENGTH:
        problems.append(f"SECRET_KEY: must have at least {SECRET_KEY_LENGTH} characters")
    allowed = str(values.get("ALLOW_EMBEDDED_REDIS", "")).lower() in {"1", "true", "yes", "on", "t", "y"}
    if embedded and not allowed:
        problems.append("REDIS_URL: memory:// forgets everything at exit; name a server, or set ALLOW_EMBEDDED_REDIS=1")
    if not values.get("PUBLIC_URL"):
        problems.append("PUBLIC_URL: must be set in production: links and the hosts that are answered come from it")
    return problems
