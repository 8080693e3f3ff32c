"""One step of a worker, in one round trip: reports go in, claimed tasks come out (tasks/lua/step.lua)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.kit.tasks.queue import KEEP_ABORTED_SECONDS, Queue

# Due tasks to promote, and expired leases to take back, in one turn.
STEP_BATCH = 500

ReportKind = Literal["done", "retry", "dead", "abort", "release", "progress"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that this worker holds. `token` fences it: it grows with each claim of the queue."""

    id: str
    token: int
    name: str
    payload: bytes
    attempt: int
    owner: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a claim. `ms`: how long to keep a result (done), or to wait (retry)."""

    id: str
    token: int
    kind: ReportKind
    ms: int = 0
    text: bytes | str | int = b""


@dataclass(frozen=True, slots=True)
class StepReply:
    """`next_seconds`: until the next task is due, or None. `depth`: ready high, normal, low, sched, lease, dead.

    `fenced`: reports that were refused: another holds the lease, or they had come before. `died`: leases taken back
    from workers that died, `buried` of them for the last time.
    """

    next_seconds: float | None
    fenced: list[str]
    aborts: list[str]
    depth: Sequence[int]
    died: int
    buried: int
    claims: list[Claim]


@dataclass(slots=True)
class Stepper:
    """Takes turns for one worker. `fair_every`: every n-th claim takes the lowest priority first; 0: never."""

    queue: Queue
    worker_id: str
    lease_seconds: float
    max_deaths: int
    fair_every: int
    idle_seconds: float
    last_token: int = 0
    missed_reply: bool = False

    async def step(self, reports: Iterable[Report], *, limit: int) -> StepReply:
        """Apply `reports` and claim up to `limit` tasks. After an error the same reports may be sent again.

        A reply that was lost may have held claims: the next step gives back what the worker never learnt of.
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
            self.last_token if self.missed_reply else "",
        ]
        for report in reports:
            arguments += (report.id, report.token, report.kind, report.ms, report.text)
        self.missed_reply = True
        next_ms, fenced, aborts, depth, died, buried, flat = await self.queue.run("tasks/step", *arguments)
        self.missed_reply = False
        claims = [_claim(flat[start : start + 6]) for start in range(0, len(flat), 6)]
        self.last_token = max([self.last_token, *(claim.token for claim in claims)])
        return StepReply(
            next_seconds=None if next_ms < 0 else next_ms / 1000,
            fenced=[id.decode() for id in fenced],
            aborts=[id.decode() for id in aborts],
            depth=depth,
            died=died,
            buried=buried,
            claims=claims,
        )


def _claim(values: Sequence[Any]) -> Claim:
    id, token, name, payload, attempt, owner = values
    return Claim(id.decode(), token, name.decode(), payload, attempt, int(owner) if owner else None)
