"""Presence: which users have an open stream on any node, published as user_online and user_offline."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.scripts import run_script
from app.kit.telemetry import NoTelemetry, Telemetry

PRESENCE = "presence"
# A node that has not reported for so long counts as dead, and its users as offline.
LEASE_SECONDS = 15.0
BEATS_A_LEASE = 3
# How long after the last stream a user stays online, so that reloading a page says nothing.
OFFLINE_SECONDS = 10.0
CHANGES_A_CALL = 500
KEEP_SECONDS = 24 * 60 * 60
MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Online:
    user_id: int
    since: datetime


class Presence:
    """The users of this node, reported to Redis under a lease: those of a node that dies go offline.

    A job for supervised(): run() renews the lease, and publishes what changes, on the channel PRESENCE.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        publisher: Publisher,
        *,
        lease_seconds: float = LEASE_SECONDS,
        offline_seconds: float = OFFLINE_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._publisher = publisher
        self._lease_seconds = lease_seconds
        self._offline_seconds = offline_seconds
        self._telemetry = telemetry or NoTelemetry()
        self._node = ""
        self._present: set[int] = set()
        # The users whom Redis has been told of.
        self._told: set[int] = set()
        self._leaving: dict[int, float] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    def add(self, user_id: int) -> None:
        """The user has a stream on this node."""
        self._leaving.pop(user_id, None)
        if user_id not in self._present:
            self._present.add(user_id)
            self._changed.set()

    def discard(self, user_id: int) -> None:
        """The user has no stream on this node any more."""
        self._leaving[user_id] = asyncio.get_running_loop().time() + self._offline_seconds
        self._changed.set()

    async def online(self, *, limit: int = MOST_LISTED) -> tuple[int, Sequence[Online]]:
        """How many users are online, and the `limit` of them that came last. Raises UNAVAILABLE."""
        key = self._keys.presence("since")
        found: Any = await self._redis.zrange(key, 0, limit - 1, desc=True, withscores=True)
        # Who goes offline between the two commands is in the list and not in the number.
        total = max(await self._redis.zcard(key), len(found))
        return total, [Online(int(user), datetime.fromtimestamp(ms / 1000, UTC)) for user, ms in found]

    async def is_online(self, user_id: int) -> bool:
        """Raises UNAVAILABLE."""
        return await self._redis.zscore(self._keys.presence("since"), str(user_id)) is not None

    async def run(self) -> None:
        """Until stop(). Then the users of this node stay online for `offline_seconds`, to reconnect elsewhere."""
        while not self._stopping:
            await self._beat_once()
            await self._wait()
        if self._node:
            await self._beat_once(lease_seconds=self._offline_seconds)

    def stop(self) -> None:
        self._stopping = True
        self._changed.set()

    async def _wait(self) -> None:
        """Until the next beat, or until a user has come or is to leave."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._lease_seconds / BEATS_A_LEASE
        if self._leaving:
            until = min(until, next(iter(self._leaving.values())))
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _beat_once(self, *, lease_seconds: float | None = None) -> None:
        self._changed.clear()
        now = asyncio.get_running_loop().time()
        for user_id, at in list(self._leaving.items()):
            if at > now:
                break
            del self._leaving[user_id]
            self._present.discard(user_id)
        try:
            waiting = await self._tell(lease_seconds or self._lease_seconds)
            if waiting:
                await self._publish_changes()
        except RedisError as error:
            # Fails open: users of this node may look offline until Redis is back.
            record_failure(error, block="events", telemetry=self._telemetry)

    async def _tell(self, lease_seconds: float) -> int:
        """Tell Redis in steps who came and who left. Returns how many changes are to be published."""
        while True:
            begins = not self._node
            node = self._node or secrets.token_hex(8)
            came = list(self._present - self._told)[:CHANGES_A_CALL]
            left = list(self._told - self._present)[: CHANGES_A_CALL - len(came)]
            known, waiting = await self._run(node, came, left, begins=begins, lease_seconds=lease_seconds)
            if not known:
                # Others have counted this node out while it did not answer, or Redis has lost its data.
                self._node, self._told = "", set()
                continue
            self._node = node
            self._told.update(came)
            self._told.difference_update(left)
            self._telemetry.gauge("events_users_online_here", len(self._told))
            if len(came) + len(left) < CHANGES_A_CALL:
                return waiting

    async def _run(
        self, node: str, came: list[int], left: list[int], *, begins: bool, lease_seconds: float
    ) -> tuple[int, int]:
        keys = self._keys
        reply: tuple[int, int] = await run_script(
            self._redis,
            "events/presence",
            keys=[
                *(keys.presence(name) for name in ("nodes", "users", "since", "changes", "dead")),
                keys.presence_of_node(node),
            ],
            args=[
                node,
                int(lease_seconds * 1000),
                int(begins),
                KEEP_SECONDS * 1000,
                CHANGES_A_CALL,
                keys.presence_of_node(""),
                len(came),
                *came,
                *left,
            ],
            repeatable=True,
        )
        return reply

    async def _publish_changes(self) -> None:
        """Publish in their order, each once: another node that publishes the same has the same ids."""
        key = self._keys.presence("changes")
        while True:
            changes: Any = await self._redis.xrange(key, count=CHANGES_A_CALL)
            if not changes:
                return
            for change_id, fields in changes:
                data, event_id = {"user_id": int(fields[b"user"])}, f"presence:{change_id.decode()}"
                await self._publisher.publish(PRESENCE, fields[b"type"].decode(), data, event_id=event_id)
            await self._redis.xdel(key, *(change_id for change_id, _ in changes))
