"""Warnings at the start about a server's configuration that loses tasks."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.deployment import deployment

logger = logging.getLogger(__name__)


async def warn_if_not_durable(redis: Redis) -> list[str]:
    """Log, and return, why this server may lose its data; nothing for the embedded store, or without an answer."""
    if deployment(redis).is_embedded:
        return []
    try:
        policy, durable = await redis.config_get("maxmemory-policy"), await redis.config_get("appendonly")
    except RedisError as error:
        # It is down, or the user may not send CONFIG.
        logger.warning("redis does not answer how it keeps its data: %s", type(error).__name__)
        return []
    found = []
    if policy.get("maxmemory-policy", "noeviction") != "noeviction":
        found.append("maxmemory-policy is not noeviction: when memory is short, Redis deletes tasks and sessions")
    if durable.get("appendonly", "yes") != "yes":
        found.append("appendonly is off: a crash of Redis loses its tasks")
    for warning in found:
        logger.warning("redis: %s", warning)
    return found
