"""The typed bundle of what the lifespan opened, which handlers, services and tasks receive."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from app.mail import Mailer
from app.outbox import Outbox
from app.passwords import Passwords


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that outlives a request."""

    redis: Redis
    cache_redis: Redis
    """The cache's own server, where CACHE_REDIS_URL names one; otherwise `redis`."""
    keys: Keys
    sessions: SessionStore
    cache: Cache
    limiter: RateLimiter
    publisher: Publisher
    hub: Hub
    presence: Presence
    queue: Queue
    queues: Mapping[str, Queue]
    """Every queue by its name, `queue` among them."""
    database: Database
    outbox: Outbox
    telemetry: Telemetry
    tracing: Tracing | None
    """None where nothing is traced."""
    secret_key: str = field(repr=False)
    public_url: str
    passwords: Passwords
    mailer: Mailer | None
    """None where no mail can be sent."""
