"""Lists the tasks of a queue by their place, for operators."""

import asyncio
from typing import Any, Literal

from app.kit.tasks.model import PRIORITIES, TaskInfo
from app.kit.tasks.queue import Queue

Place = Literal["waiting", "scheduled", "running", "dead"]

PLACES: tuple[Place, ...] = ("waiting", "scheduled", "running", "dead")


async def list_tasks(queue: Queue, place: Place, *, offset: int = 0, limit: int = 100) -> list[TaskInfo]:
    """Up to `limit` tasks, one round trip for the ids and one for the records.

    The order is that in which they go on: waiting by priority, the next one first; scheduled by due time; running by
    the end of their leases; dead ones the latest first. What moves between the two reads is left out.
    """
    ids = await _ids(queue, place, offset, limit)
    found = await asyncio.gather(*(queue.get(id.decode()) for id in ids))
    return [info for info in found if info is not None]


async def _ids(queue: Queue, place: Place, offset: int, limit: int) -> list[bytes]:
    high, normal, low, sched, lease, dead, *_ = queue.keys.task_places(queue.name)
    redis: Any = queue.redis
    if place == "waiting":
        found: list[bytes] = []
        skip = offset
        for key, _ in zip((high, normal, low), PRIORITIES, strict=True):
            size = await redis.llen(key)
            # The next one stands at the end of its list.
            if skip < size and len(found) < limit:
                last = size - skip
                found += (await redis.lrange(key, max(0, last - (limit - len(found))), last - 1))[::-1]
            skip = max(0, skip - size)
        return found
    if place == "dead":
        return list(await redis.zrevrange(dead, offset, offset + limit - 1))
    return list(await redis.zrange(sched if place == "scheduled" else lease, offset, offset + limit - 1))
