"""Makes the blocks from the settings and the clients. Nothing is opened here."""

from redis.asyncio import Redis

from app.db.database import Database
from app.kit.cache.cache import Cache
from app.kit.events.hub import Hub
from app.kit.events.presence import Presence
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.limits.limiter import RateLimiter
from app.kit.sessions.store import SessionStore
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry
from app.kit.tracing import Tracing
from app.mail import ConsoleMailer, Mailer, SmtpMailer
from app.outbox import Outbox
from app.outbox_delivery import Delivery
from app.passwords import Passwords
from app.resources import Resources
from app.settings import DEFAULT_QUEUE, Settings
from app.web.context import current_request_id


def make_blocks(
    settings: Settings,
    keys: Keys,
    *,
    redis: Redis,
    cache_redis: Redis,
    database: Database,
    telemetry: Telemetry,
    tracing: Tracing | None = None,
) -> Resources:
    # A server of the cache's own evicts; the shared one keeps sessions and tasks, for which memory must be left.
    percent = settings.cache_memory_percent if cache_redis is redis else None
    cache = Cache(cache_redis, keys, telemetry=telemetry, memory_percent=percent)
    publisher = Publisher(redis, keys, telemetry=telemetry, tracing=tracing)
    presence = Presence(redis, keys, publisher, telemetry=telemetry)
    queues = {
        name: Queue(redis, keys, name=name, correlation=current_request_id, tracing=tracing) for name in settings.queues
    }
    queue = queues[DEFAULT_QUEUE]
    sessions = _sessions(settings, redis, keys, telemetry)
    return Resources(
        redis=redis,
        cache_redis=cache_redis,
        keys=keys,
        sessions=sessions,
        cache=cache,
        limiter=RateLimiter(redis, keys, telemetry=telemetry, secret=settings.secret_key.encode()),
        publisher=publisher,
        hub=_hub(settings, redis, keys, presence, telemetry),
        presence=presence,
        queue=queue,
        queues=queues,
        database=database,
        outbox=Outbox(
            database, Delivery(publisher, queues, cache, sessions), queue, telemetry=telemetry, tracing=tracing
        ),
        telemetry=telemetry,
        tracing=tracing,
        secret_key=settings.secret_key,
        public_url=settings.public_url,
        passwords=_passwords(settings),
        mailer=_mailer(settings),
    )


def _sessions(settings: Settings, redis: Redis, keys: Keys, telemetry: Telemetry) -> SessionStore:
    return SessionStore(
        redis,
        keys,
        idle_seconds=settings.session_idle_seconds,
        absolute_seconds=settings.session_absolute_seconds,
        max_per_user=settings.sessions_per_user,
        telemetry=telemetry,
    )


def _hub(settings: Settings, redis: Redis, keys: Keys, presence: Presence, telemetry: Telemetry) -> Hub:
    return Hub(
        redis,
        keys,
        presence=presence,
        max_streams=settings.max_streams,
        max_streams_per_user=settings.max_streams_per_user,
        max_streams_per_network=settings.max_streams_per_network,
        max_age_seconds=settings.stream_max_age_seconds,
        telemetry=telemetry,
    )


def _passwords(settings: Settings) -> Passwords:
    return Passwords(
        time_cost=settings.argon2_time_cost,
        memory_kib=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )


def _mailer(settings: Settings) -> Mailer | None:
    """None in production without a server: a console is no mailbox, and what it prints may be kept in a log."""
    if settings.smtp_url:
        return SmtpMailer(settings.smtp_url, sender=settings.mail_from)
    return None if settings.is_production else ConsoleMailer(sender=settings.mail_from)
