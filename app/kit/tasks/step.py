"""One step of a worker, in one round trip: reports go in, claimed tasks come out (tasks/lua/step.lua)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.kit.tasks.model import Claim, Report, parse_options, text_of
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
    `schedules`: grows with each change of the schedules. `moved`: keys of a wrong type, which another program has
    written, without the queue's prefix; each now has `wrong:` before its name.
    """

    next_seconds: float | None
    refused: list[str]
    aborts: list[str]
    depth: Sequence[int]
    expired: int
    poisoned: list[tuple[str, str]]
    overdue: list[tuple[str, str]]
    schedules: int
    moved: list[str]
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
        next_ms, refused, aborts, depth, expired, poisoned, overdue, schedules, moved, flat = reply
        claims = [_claim(*values) for values in zip(*[iter(flat)] * CLAIM_VALUES, strict=True)]
        if claims:
            self._last_token = max(self._last_token, claims[-1].token)
        return StepReply(
            next_seconds=None if next_ms < 0 else next_ms / 1000,
            refused=[text_of(id) for id in refused],
            aborts=[text_of(id) for id in aborts],
            depth=depth,
            expired=expired,
            poisoned=_pairs(poisoned),
            overdue=_pairs(overdue),
            schedules=schedules,
            moved=[text_of(key) for key in moved],
            claims=claims,
        )


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(text_of(id), text_of(name)) for id, name in zip(flat[::2], flat[1::2], strict=True)]


def _claim(id: bytes, token: int, name: bytes, payload: bytes, attempt: int, options: bytes, waited_ms: int) -> Claim:
    return Claim(text_of(id), token, text_of(name), payload, attempt, parse_options(options), waited_ms / 1000)
