"""One step of a worker, in one round trip: reports go in, claimed tasks come out (tasks/lua/step.lua)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.kit.tasks.model import Claim, Report, parse_options
from app.kit.tasks.queue import KEEP_ABORTED_MS, Queue

# Due tasks to promote, expired leases to take back, and tasks to pass over, in one step.
STEP_BATCH = 500
CLAIM_VALUES = 7


@dataclass(frozen=True, slots=True)
class StepReply:
    """`next_seconds`: until the next task is due, or None. `depth`: ready high, normal, low, sched, lease, dead.

    `refused`: ids whose report was refused: another worker holds the lease, or the report had been applied before.
    `aborts`: ids to abort. `expired`: how many leases were taken back; `poisoned`: id and name of each of their tasks
    that is dead now, because its workers died too often; `overdue`: of each that expired before it could start.
    `schedules`: grows with each change of the schedules.
    """

    next_seconds: float | None
    refused: list[str]
    aborts: list[str]
    depth: Sequence[int]
    expired: int
    poisoned: list[tuple[str, str]]
    overdue: list[tuple[str, str]]
    schedules: int
    claims: list[Claim]


@dataclass(slots=True)
class Stepper:
    """Takes the steps of one worker. `fair_every`: every n-th claim takes the lowest priority first; 0: never.

    `limits`: those of its tasks, as Executor.limits() gives them.
    """

    queue: Queue
    worker_id: str
    lease_seconds: float
    max_deaths: int
    fair_every: int
    idle_seconds: float
    limits: Sequence[str | int] = ()
    _last_token: int = field(default=0, init=False)
    _missed_reply: bool = field(default=False, init=False)

    async def step(self, reports: Iterable[Report], *, limit: int, health: bytes | str = "") -> StepReply:
        """Apply `reports` and claim up to `limit` tasks. After an error the same reports may be sent again.

        A lost reply may have held claims: the next step gives those back. `health`: WorkerHealth as JSON, or "gone".
        """
        arguments: list[Any] = [
            self.worker_id,
            round(self.lease_seconds * 1000),
            limit,
            STEP_BATCH,
            self.max_deaths,
            self.fair_every,
            round(self.idle_seconds * 1000),
            KEEP_ABORTED_MS,
            self._last_token if self._missed_reply else "",
            health,
            len(self.limits) // 4,
            *self.limits,
        ]
        for report in reports:
            arguments += (report.id, report.token, report.kind, report.ms, report.text, report.trace)
        self._missed_reply = True
        reply = await self.queue.run("tasks/step", *arguments)
        self._missed_reply = False
        next_ms, refused, aborts, depth, expired, poisoned, overdue, schedules, flat = reply
        claims = [_claim(flat[start : start + CLAIM_VALUES]) for start in range(0, len(flat), CLAIM_VALUES)]
        self._last_token = max([self._last_token, *(claim.token for claim in claims)])
        return StepReply(
            next_seconds=None if next_ms < 0 else next_ms / 1000,
            refused=[_text(id) for id in refused],
            aborts=[_text(id) for id in aborts],
            depth=depth,
            expired=expired,
            poisoned=_pairs(poisoned),
            overdue=_pairs(overdue),
            schedules=schedules,
            claims=claims,
        )


def _text(value: bytes) -> str:
    """Other programs may have written it: nothing that is in the queue ends a worker."""
    return value.decode("utf-8", "backslashreplace")


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(_text(id), _text(name)) for id, name in zip(flat[::2], flat[1::2], strict=True)]


def _claim(values: Sequence[Any]) -> Claim:
    id, token, name, payload, attempt, options, waited_ms = values
    return Claim(_text(id), token, _text(name), payload, attempt, parse_options(options), waited_ms / 1000)
