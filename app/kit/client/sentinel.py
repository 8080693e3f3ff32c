"""Which server is the primary, as a majority of the sentinels says."""

import asyncio
from typing import Any, cast

from redis.asyncio import Redis, Sentinel
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

from app.kit.aio import side_by_side

ServiceState = dict[str, Any]


class Sentinels(Sentinel):
    """redis-py's Sentinel, but asking all sentinels at once: one that hangs, or was cut off, decides nothing.

    Of a majority's answers the one with the highest configuration epoch counts, which grows with each failover (Redis'
    Sentinel documentation, "Configuration epochs").
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The primary's address. MasterNotFoundError, a ConnectionError, where no sentinel knows one that is up."""
        states: list[ServiceState] = []
        errors: list[Exception] = []
        majority = len(self.sentinels) // 2 + 1
        async with side_by_side(*(_ask(sentinel, service_name) for sentinel in self.sentinels)) as asking:
            for next_answer in asyncio.as_completed(asking):
                answer = await next_answer
                if isinstance(answer, Exception):
                    errors.append(answer)
                else:
                    states.append(answer)
                if len(states) == majority:
                    break
        up = [state for state in states if state and self.check_master_state(state, service_name)]
        if not up:
            summary = f"{len(states)} of {len(asking)} sentinels answer, and none knows a primary that is up"
            raise MasterNotFoundError(summary) from (errors[0] if errors and not states else None)
        newest = max(up, key=lambda state: int(state["config-epoch"]))
        return newest["ip"], int(newest["port"])


async def _ask(sentinel: Redis, service_name: str) -> ServiceState | Exception:
    """What a sentinel knows of the service, {} for nothing; or why it does not answer."""
    try:
        masters = cast(dict[str, ServiceState], await sentinel.sentinel_masters())
    except (RedisError, OSError) as error:
        return error
    return masters.get(service_name, {})
