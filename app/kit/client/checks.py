"""What in a server's configuration would lose tasks, told once at the start."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger(__name__)


async def warn_if_not_durable(redis: Redis) -> list[str]:
    """Log, and return, why this server may lose what it holds. Nothing where it cannot be asked."""
    try:
        policy, durable = await redis.config_get("maxmemory-policy"), await redis.config_get("appendonly")
    except ResponseError:
        # The embedded store, or a user who may not ask.
        return []
    except RedisError as error:
        logger.warning("redis does not tell how it keeps its data: %s", type(error).__name__)
        return []
    found = []
    if policy.get("maxmemory-policy", "noeviction") != "noeviction":
        found.append("maxmemory-policy is not noeviction: when memory is short, tasks and sessions are thrown away")
    if durable.get("appendonly", "yes") != "yes":
        found.append("appendonly is off: a crash of Redis loses the tasks that it holds")
    for warning in found:
        logger.warning("redis: %s", warning)
    return found
