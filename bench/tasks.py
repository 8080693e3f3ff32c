"""Background tasks: no-op tasks with results kept, one worker process, 32 at a time, beside other queues."""

import asyncio

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.queue import Queue
from bench.rounds import OLDER_PYTHON, ROOT, Side, redis_server, report, run_rounds
from bench.sides.tasks_worked import noop

# Where its keys pass a power of two, Redis moves them all to a larger table, and what it works on meanwhile costs up
# to twice as much, whatever the keys are. 1,000,000 are so close to one that the rounds would measure that.
BACKLOGS = (1_000, 1_500_000)
COSTS = ("round trips a task", "ms to wake an idle worker")
NODE_MODULES = ROOT / "bench" / "node" / "node_modules"
OURS = "bench.sides.tasks_worked"


def main(rounds: int) -> None:
    with redis_server() as url, redis_server() as few, redis_server() as many:
        waiting = [_waiting(server, amount) for server, amount in zip((few, many), BACKLOGS, strict=True)]
        sides = [
            Side("quartet", OURS, _environ(url, 20_000) | {"TIMES": "300"}),
            Side("quartet, events on", OURS, _environ(url, 5_000) | {"EVENTS": "1"}),
            *waiting,
            Side("arq", "bench.sides.peer_arq", _environ(url, 2_000), command=(str(OLDER_PYTHON), "-m")),
            Side("SAQ", "bench.sides.peer_saq", _environ(url, 2_000), command=(str(OLDER_PYTHON), "-m")),
            Side("taskiq, list", "bench.sides.peer_taskiq", _environ(url, 3_000) | {"BROKER": "list"}, peer=True),
            Side("taskiq, stream", "bench.sides.peer_taskiq", _environ(url, 3_000) | {"BROKER": "stream"}, peer=True),
            Side("streaq", "bench.sides.peer_streaq", _environ(url, 2_000), peer=True),
            Side("RQ", "bench.sides.peer_rq", _environ(url, 500), peer=True),
            Side("Celery", "bench.sides.peer_celery", _environ(url, 1_000), peer=True),
        ]
        if NODE_MODULES.exists():
            sides.append(Side("BullMQ", "bench/node/bullmq.mjs", _environ(url, 20_000), command=("node",)))
        else:
            print("BullMQ is left out: `npm ci` in bench/node installs it, where Node is installed.")
        report("tasks", run_rounds(sides, rounds=rounds), costs=COSTS)


def _environ(url: str, count: int) -> dict[str, str]:
    return {"REDIS_URL": url, "COUNT": str(count)}


def _waiting(url: str, amount: int) -> Side:
    """With a backlog that no round works off: it waits behind the tasks of the side, which have a higher priority."""
    asyncio.run(_fill(url, amount))
    environ = _environ(url, 20_000) | {"NAMESPACE": "full", "WAKES": "0"}
    return Side(f"quartet, {amount:,} waiting", OURS, environ)


async def _fill(url: str, amount: int) -> None:
    redis = connect(url, name="bench", timeout_seconds=30)
    queue = Queue(redis, Keys("full"))
    for start in range(0, amount, 10_000):
        numbers = range(start, min(amount, start + 10_000))
        await queue.submit([noop.call(number, priority="low") for number in numbers])
    await redis.aclose()
