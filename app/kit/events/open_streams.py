"""The open streams of a process: who has how many, and which of them a revocation ends."""

import asyncio
import logging
import random
import time
from collections import Counter
from itertools import islice

from app.kit.aio import Backoff
from app.kit.events.heartbeat import HeartbeatWheel
from app.kit.events.presence import Presence
from app.kit.events.stream import Stream, WriteTotals
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# The ages at which streams end differ by up to this share.
AGE_JITTER = 0.1
# Longer than any request takes from the check of its credential to its stream.
REMEMBERED_REVOCATIONS_SECONDS = 120.0
CHECKS_AT_ONCE = 20
REPORT_SECONDS = 1.0


class OpenStreams:
    """Admits streams within the caps, in all, a user and a network; ends them by age and by revocation."""

    def __init__(
        self,
        *,
        wheel: HeartbeatWheel,
        presence: Presence | None,
        max_streams: int,
        max_per_user: int,
        max_per_network: int,
        max_age_seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._wheel = wheel
        self._presence = presence
        self._max_streams = max_streams
        self._max_per_user = max_per_user
        self._max_per_network = max_per_network
        self._max_age_seconds = max_age_seconds
        self._telemetry = telemetry
        self._streams: set[Stream] = set()
        self._of_user: dict[int, set[Stream]] = {}
        self._of_network: Counter[str] = Counter()
        self._revoked_at: dict[int, float] = {}
        self._missed_at = float("-inf")
        self._unchecked: set[Stream] = set()
        self._checkable = asyncio.Event()
        self._all_gone = asyncio.Event()
        self.totals = WriteTotals()

    def __len__(self) -> int:
        return len(self._streams)

    def snapshot(self) -> list[Stream]:
        return list(self._streams)

    def refusal(self, stream: Stream) -> str:
        """Which cap has no room for the stream: "cap", "user" or "network"; "" when there is room."""
        grant = stream.grant
        if len(self._streams) >= self._max_streams:
            return "cap"
        if grant.user_id is not None and len(self._of_user.get(grant.user_id, ())) >= self._max_per_user:
            return "user"
        if grant.network and self._of_network[grant.network] >= self._max_per_network:
            return "network"
        return ""

    def add(self, stream: Stream) -> None:
        """A revocation that came since the credential was checked counts for it."""
        grant = stream.grant
        age = self._max_age_seconds * random.uniform(1 - AGE_JITTER, 1)  # noqa: S311  jitter, no secret
        valid_seconds = grant.seconds - (time.perf_counter() - grant.since)
        stream.ends_at = asyncio.get_running_loop().time() + min(age, valid_seconds)
        self._streams.add(stream)
        self._wheel.add(stream)
        if grant.network:
            self._of_network[grant.network] += 1
        if grant.user_id is not None:
            self._add_of_user(stream, grant.user_id)
        self._count()

    def discard(self, stream: Stream) -> None:
        grant = stream.grant
        stream.discard()
        self._streams.discard(stream)
        self._unchecked.discard(stream)
        self._wheel.discard(stream)
        if grant.network:
            self._of_network[grant.network] -= 1
            if not self._of_network[grant.network]:
                del self._of_network[grant.network]
        if grant.user_id is not None:
            self._discard_of_user(stream, grant.user_id)
        self._count()
        if not self._streams:
            self._all_gone.set()

    async def all_gone(self) -> None:
        while self._streams:
            self._all_gone.clear()
            await self._all_gone.wait()

    def revoke(self, user_id: int, credential: str | None) -> None:
        """End the user's streams: those of one credential, or all."""
        now = time.perf_counter()
        for user, at in list(self._revoked_at.items()):
            if at > now - REMEMBERED_REVOCATIONS_SECONDS:
                break
            del self._revoked_at[user]
        self._revoked_at.pop(user_id, None)
        self._revoked_at[user_id] = now
        for stream in self._of_user.get(user_id, ()):
            if credential is None or stream.grant.credential == credential:
                self._end_revoked(stream)

    def check_all(self) -> None:
        """Revocations may have been missed: run() checks every stream that has a credential."""
        self._missed_at = time.perf_counter()
        for streams in self._of_user.values():
            self._unchecked |= streams
        self._checkable.set()

    async def run(self) -> None:
        """Check streams until cancelled."""
        backoff = Backoff(first_seconds=0.5, longest_seconds=5.0)
        while True:
            await self._checkable.wait()
            self._checkable.clear()
            while self._unchecked:
                streams = list(islice(self._unchecked, CHECKS_AT_ONCE))
                answers = await asyncio.gather(*(self._check(stream) for stream in streams))
                self._unchecked -= {stream for stream, known in zip(streams, answers, strict=True) if known}
                if all(answers):
                    backoff.reset()
                else:
                    # Fails open, for as long as the backends are down by which credentials are checked.
                    await backoff.wait()

    async def report(self) -> None:
        """Hand the totals to telemetry regularly, because counting each write would cost as much as some writes do."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            totals = self.totals
            self._telemetry.count("events_writes", totals.writes)
            self._telemetry.count("events_joined_writes", totals.joined_writes)
            self._telemetry.gauge("events_queued_bytes", totals.queued_bytes)
            totals.writes = totals.joined_writes = 0

    async def _check(self, stream: Stream) -> bool:
        """Whether the answer is known; a stream that is not allowed any more ends."""
        if stream.grant.check is None or stream.ended:
            return True
        try:
            allowed = await stream.grant.check()
        except Exception:
            # Fails closed: a defect, and the client reconnects.
            logger.exception("a stream's credential cannot be checked")
            allowed = False
        if allowed is False:
            self._end_revoked(stream)
        return allowed is not None

    def _end_revoked(self, stream: Stream) -> None:
        if not stream.revoked:
            self._telemetry.count("events_streams_closed", reason="revoked")
            stream.revoke()

    def _add_of_user(self, stream: Stream, user_id: int) -> None:
        streams = self._of_user.setdefault(user_id, set())
        streams.add(stream)
        if self._presence is not None and len(streams) == 1:
            self._presence.add(user_id)
        if self._revoked_at.get(user_id, float("-inf")) >= stream.grant.since:
            # Perhaps another credential's: the client reconnects, and its own is checked.
            self._end_revoked(stream)
        elif self._missed_at >= stream.grant.since:
            self._unchecked.add(stream)
            self._checkable.set()

    def _discard_of_user(self, stream: Stream, user_id: int) -> None:
        streams = self._of_user[user_id]
        streams.discard(stream)
        if not streams:
            del self._of_user[user_id]
            if self._presence is not None:
                self._presence.discard(user_id)

    def _count(self) -> None:
        self._telemetry.gauge("events_streams", len(self._streams))
