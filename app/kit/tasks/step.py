"""One step of a worker, in one round trip: reports go in, claimed tasks come out (tasks/lua/step.lua)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.kit.tasks.model import Claim, Report
from app.kit.tasks.queue import KEEP_ABORTED_SECONDS, Queue

# Due tasks to promote, and expired leases to take back, in one step.
STEP_BATCH = 500


@dataclass(frozen=True, slots=True)
class StepReply:
    """`next_seconds`: until the next task is due, or None. `depth`: ready high, normal, low, sched, lease, dead.

    `refused`: ids whose report was refused: another worker holds the lease, or the report had been applied before.
    `aborts`: ids to abort. `expired`: how many leases were taken back; `poisoned`: how many of their tasks are dead
    now, because their workers died too often.
    """

    next_seconds: float | None
    refused: list[str]
    aborts: list[str]
    depth: Sequence[int]
    expired: int
    poisoned: int
    claims: list[Claim]


@dataclass(slots=True)
class Stepper:
    """Takes the steps of one worker. `fair_every`: every n-th claim takes the lowest priority first; 0: never."""

    queue: Queue
    worker_id: str
    lease_seconds: float
    max_deaths: int
    fair_every: int
    idle_seconds: float
    _last_token: int = field(default=0, init=False)
    _missed_reply: bool = field(default=False, init=False)

    async def step(self, reports: Iterable[Report], *, limit: int) -> StepReply:
        """Apply `reports` and claim up to `limit` tasks. After an error the same reports may be sent again.

        A lost reply may have held claims: the next step gives those back.
        """
        arguments: list[Any] = [
            self.worker_id,
            round(self.lease_seconds * 1000),
            limit,
            STEP_BATCH,
            self.max_deaths,
            self.fair_every,
            round(self.idle_seconds * 1000),
            round(KEEP_ABORTED_SECONDS * 1000),
            self._last_token if self._missed_reply else "",
        ]
        for report in reports:
            arguments += (report.id, report.token, report.kind, report.ms, report.text)
        self._missed_reply = True
        next_ms, refused, aborts, depth, expired, poisoned, flat = await self.queue.run("tasks/step", *arguments)
        self._missed_reply = False
        claims = [_claim(flat[start : start + 6]) for start in range(0, len(flat), 6)]
        self._last_token = max([self._last_token, *(claim.token for claim in claims)])
        return StepReply(
            next_seconds=None if next_ms < 0 else next_ms / 1000,
            refused=[id.decode() for id in refused],
            aborts=[id.decode() for id in aborts],
            depth=depth,
            expired=expired,
            poisoned=poisoned,
            claims=claims,
        )


def _claim(values: Sequence[Any]) -> Claim:
    id, token, name, payload, attempt, owner = values
    return Claim(id.decode(), token, name.decode(), payload, attempt, int(owner) if owner else None)
