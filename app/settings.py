"""Settings, read once from the environment and a `.env` file, validated all at once, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from app.setting_types import (
    AnyCase,
    CommaList,
    CorsOrigins,
    DatabaseURL,
    EmailAddress,
    EndpointURL,
    HeaderNames,
    Namespace,
    Networks,
    OptionalHost,
    Origin,
    QueueNames,
    RedisURL,
    SmtpURL,
)
from app.settings_redis import RedisParts, choose_parts
from app.settings_server import DEFAULT_BIND, ServerSettings
from app.variables import BadFile, FromVariables, read_variables, strangers

DEVELOPMENT_SECRET_KEY = "development-only-and-refused-in-production"  # noqa: S105  public, and refused in production
SECRET_KEY_LENGTH = 32
METRICS_TOKEN_LENGTH = 16
DEFAULT_QUEUE = "default"

SettingsT = TypeVar("SettingsT", bound=FromVariables)


class SettingsError(Exception):
    """Every problem found in the variables, one line each, each naming its variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def shown(self) -> str:
        """For people: in one line where there is one problem."""
        lines = self.problems if len(self.problems) == 1 else ["", *self.problems]
        return "the settings are not valid:" + (f" {lines[0]}" if len(lines) == 1 else "\n  ".join(lines))


# Ten years. Redis refuses a TTL that 64 bits cannot hold, in milliseconds.
LONGEST_SESSION_SECONDS = 3650 * 86_400


class Settings(ServerSettings):
    """Every setting. docs/settings.md describes each."""

    environment: Literal["development", "testing", "production"] = "development"
    secret_key: str = Field(default=DEVELOPMENT_SECRET_KEY, repr=False)
    public_url: Origin = f"http://{DEFAULT_BIND}"
    allowed_hosts: Annotated[CommaList, AnyCase] = ()
    trusted_proxies: Networks = ()
    trusted_hops: int = Field(default=0, ge=0, le=16)
    trusted_header: Annotated[Literal["x-forwarded-for", "forwarded"], AnyCase] = "x-forwarded-for"
    cors_origins: Annotated[CorsOrigins, AnyCase] = ()
    cors_headers: HeaderNames = ()
    cors_credentials: bool = False
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"
    metrics_token: str = Field(default="", repr=False)
    otel_exporter_otlp_endpoint: EndpointURL = ""
    otel_traces_sampler_arg: float = Field(default=1, ge=0, le=1)

    redis_url: RedisURL = Field(default="memory://", repr=False)
    cache_redis_url: RedisURL = Field(default="", repr=False)
    cache_memory_percent: int = Field(default=50, ge=1, le=100)
    allow_embedded_redis: bool = False
    namespace: Namespace = "quartet"
    redis_budget_ms: int = Field(default=250, ge=10, le=60_000)

    database_url: DatabaseURL = Field(default="sqlite+aiosqlite:///var/quartet.db", repr=False)
    database_replica_url: DatabaseURL = Field(default="", repr=False)
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    database_max_overflow: int = Field(default=20, ge=0, le=1000)
    database_pool_timeout_seconds: float = Field(default=5, gt=0, le=300)
    database_connect_timeout_seconds: float = Field(default=5, gt=0, le=300)
    database_statement_timeout_seconds: float = Field(default=10, gt=0, le=3600)
    database_pre_ping: bool = True
    database_read_own_writes_seconds: float = Field(default=5, ge=0, le=3600)

    session_idle_seconds: int = Field(default=86_400, ge=60, le=LONGEST_SESSION_SECONDS)
    session_absolute_seconds: int = Field(default=30 * 86_400, ge=60, le=LONGEST_SESSION_SECONDS)
    sessions_per_user: int = Field(default=20, ge=1, le=1000)
    visitor_sessions_per_hour: int = Field(default=1000, ge=1, le=1_000_000)
    session_cookie_domain: Annotated[OptionalHost, AnyCase] = ""
    session_cookie_partitioned: bool = False
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 40)

    argon2_time_cost: int = Field(default=2, ge=1, le=100)
    argon2_memory_kib: int = Field(default=19_456, ge=8, le=4 << 20)
    argon2_parallelism: int = Field(default=1, ge=1, le=64)
    smtp_url: SmtpURL = Field(default="", repr=False)
    mail_from: EmailAddress = "quartet@localhost"

    task_queues: QueueNames = ()
    consumer: bool = True
    consumer_queues: QueueNames = ()
    worker_concurrency: int = Field(default=16, ge=1, le=1000)
    task_lease_seconds: float = Field(default=30, ge=1, le=3600)
    task_grace_seconds: float = Field(default=10, ge=0, le=50)
    subscriber: bool = True
    max_streams: int = Field(default=10_000, ge=1, le=1_000_000)
    max_streams_per_user: int = Field(default=100, ge=1, le=1_000_000)
    max_streams_per_network: int = Field(default=1000, ge=1, le=1_000_000)
    stream_max_age_seconds: float = Field(default=3600, ge=10, le=86_400)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that requests may have, besides loopback ones."""
        return (urlsplit(self.public_url).hostname or "", *self.allowed_hosts)

    @property
    def ports(self) -> frozenset[int]:
        """The ports that are served, as far as they are stated."""
        urls = [self.public_url, f"http://{self.bind}"] if self.listens_on_network else [self.public_url]
        return frozenset(port for url in urls if (port := urlsplit(url).port))

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of all queues, the default one first."""
        return tuple(dict.fromkeys((DEFAULT_QUEUE, *self.task_queues)))

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def uses_embedded_redis(self) -> bool:
        return self.redis_url.startswith("memory:")


@dataclass(frozen=True, slots=True)
class Reading:
    """The settings, by variable where each came from if not from its default, and what has no effect."""

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
    try:
        found = read_variables(environ)
    except BadFile as error:
        raise SettingsError([str(error)]) from error
    values = found.of(Settings)
    sources = {name: found.source_of(name) for name in values}
    choice = choose_parts(found)
    parts, failed, problems = _validated(RedisParts, choice.values)
    if choice.values:
        values["REDIS_URL"], sources["REDIS_URL"] = parts.url, choice.source
    if failed:
        del values["REDIS_URL"]
        failed.add("REDIS_URL")
    settings, failed_too, problems_too = _validated(Settings, values)
    failed |= failed_too
    problems += [*problems_too, *_cross_checks(settings, failed)]
    if problems:
        raise SettingsError(problems)
    if "BIND" in values and "PUBLIC_URL" not in values and settings.listens_on_network:
        # Where nothing says otherwise, links lead to the address that is served.
        settings = settings.model_copy(update={"public_url": f"{settings.scheme}://{settings.bind}"})
        sources["PUBLIC_URL"] = "BIND"
    known = {name.upper() for cls in (Settings, RedisParts) for name in cls.model_fields}
    return Reading(settings, sources, (*strangers(known, found), *choice.warnings))


def _validated(cls: type[SettingsT], values: Mapping[str, Any]) -> tuple[SettingsT, set[str], list[str]]:
    """From the values that are valid, and defaults for the others; the names of those, and a line for each problem."""
    unreadable = {name for name, value in values.items() if not str(value).isprintable()}
    if unreadable:
        # No value has one on purpose, and it would fail where the value is used.
        readable = {name: value for name, value in values.items() if name not in unreadable}
        found, failed, problems = _validated(cls, readable)
        told = [f"{name}: has a control character, or is not UTF-8 text" for name in sorted(unreadable)]
        return found, failed | unreadable, problems + told
    try:
        return cls.model_validate(values), set(), []
    except ValidationError as error:
        # Of a list the place in it follows; the variable comes first.
        problems = [f"{e['loc'][0]}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        failed = {str(e["loc"][0]) for e in error.errors()}
    return cls.model_validate({name: value for name, value in values.items() if name not in failed}), failed, problems


def _cross_checks(settings: Settings, failed: set[str]) -> list[str]:
    """Rules over several variables. They report beside the fields' own errors, and not of a field that `failed`."""
    problems = []
    embedded = settings.uses_embedded_redis and "REDIS_URL" not in failed
    if embedded and settings.workers > 1:
        problems.append(
            "WORKERS: more than one needs a Redis server: memory:// lives in one process, "
            "so each worker would have sessions, limits and tasks of its own"
        )
    if settings.argon2_memory_kib < 8 * settings.argon2_parallelism:
        problems.append("ARGON2_MEMORY_KIB: must be at least 8 times ARGON2_PARALLELISM (RFC 9106, 3.1)")
    if settings.smtp_url and "mail_from" not in settings.model_fields_set and "MAIL_FROM" not in failed:
        problems.append("MAIL_FROM: must be set where SMTP_URL is: servers refuse mail from nowhere")
    problems += settings.server_problems()
    if settings.cors_credentials and "*" in settings.cors_origins:
        problems.append("CORS_CREDENTIALS: needs CORS_ORIGINS by name: browsers refuse * with credentials")
    domain, host = settings.session_cookie_domain.lstrip("."), settings.hosts[0]
    if domain and host != domain and not host.endswith(f".{domain}") and "PUBLIC_URL" not in failed:
        problems.append("SESSION_COOKIE_DOMAIN: must be the host of PUBLIC_URL, or a domain above it")
    if unknown := [name for name in settings.consumer_queues if name not in settings.queues]:
        problems.append(f"CONSUMER_QUEUES: {', '.join(unknown)}: no such queue in TASK_QUEUES")
    if not settings.is_production:
        return problems
    if "secret_key" not in settings.model_fields_set:
        problems.append("SECRET_KEY: must be set in production")
    elif settings.secret_key == DEVELOPMENT_SECRET_KEY:
        problems.append("SECRET_KEY: is the development default")
    elif len(settings.secret_key) < SECRET_KEY_LENGTH:
        problems.append(f"SECRET_KEY: must have at least {SECRET_KEY_LENGTH} characters")
    if len(settings.metrics_token) < METRICS_TOKEN_LENGTH and "METRICS_TOKEN" not in failed:
        problems.append(
            f"METRICS_TOKEN: must be set in production, with at least {METRICS_TOKEN_LENGTH} characters: "
            "behind a proxy on the same machine every client of /metrics is local"
        )
    if embedded and not settings.allow_embedded_redis and "ALLOW_EMBEDDED_REDIS" not in failed:
        problems.append("REDIS_URL: memory:// forgets everything at exit; name a server, or set ALLOW_EMBEDDED_REDIS=1")
    if "public_url" not in settings.model_fields_set and "PUBLIC_URL" not in failed:
        problems.append("PUBLIC_URL: must be set in production: links and the hosts that are answered come from it")
    return problems
