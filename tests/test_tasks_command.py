"""`quartet worker` and `quartet tasks`, as an operator runs them."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.commands import environment, quartet
from tests.services import RedisServer, end, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server


@task()
async def not_deployed(context: TaskContext, reason: str) -> None:
    """No worker of the application knows it."""


@pytest.fixture
def environ(redis_server: RedisServer, keys: Keys, sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    shutil.copy(sqlite_template, tmp_path / "worker.db")
    return {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'worker.db'}",
        "TASK_QUEUES": "mail",
        "TASK_GRACE_SECONDS": "1",
    }


@contextmanager
def working(environ: dict[str, str], folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "worker", *options], env=environment(environ), cwd=folder, process_group=0
    )
    try:
        yield process
    finally:
        end(process)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listed.exists():
        pytest.skip("the children of a process are listed on Linux only")
    return [int(pid) for pid in listed.read_text().split()]


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


async def names_of(redis: Redis, namespace: str) -> set[str]:
    """The processes whose leases' clients or workers are connected, by CLIENT LIST."""
    clients: Any = await redis.client_list()
    names = [client["name"] for client in clients if client["name"].startswith(f"{namespace}:")]
    return {name.split(":")[2] for name in names if name.endswith(":worker")}


async def drained(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 30)


async def test_processes_are_kept_alive_and_drain(
    real_redis: Redis, keys: Keys, environ: dict[str, str], tmp_path: Path
) -> None:
    async def at_work() -> set[str]:
        return await names_of(real_redis, keys.namespace)

    async def both_at_work(without: str = "") -> bool:
        found = await at_work()
        return len(found) == 2 and without not in found

    with working(environ, tmp_path, "--processes", "2", "--concurrency", "3") as process:
        await eventually(both_at_work, seconds=30)
        pids = children(process)
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        await eventually(lambda: both_at_work(without=str(pids[0])), seconds=30)
        replaced = children(process)
        assert pids[1] in replaced
        assert len(replaced) == 2
        # As Ctrl-C in a terminal: the whole group is told.
        os.killpg(process.pid, signal.SIGINT)
        assert await drained(process) == 0
        assert not any(is_alive(pid) for pid in replaced)


async def test_children_end_with_a_supervisor_that_is_killed(
    real_redis: Redis, keys: Keys, environ: dict[str, str], tmp_path: Path
) -> None:
    async def one_at_work() -> bool:
        return len(await names_of(real_redis, keys.namespace)) == 2

    with working(environ, tmp_path, "--processes", "2") as process:
        await eventually(one_at_work, seconds=30)
        pids = children(process)
        process.kill()
        await eventually(lambda: not any(is_alive(pid) for pid in pids), seconds=30)


async def test_a_worker_serves_the_queues_that_it_is_told(
    real_redis: Redis, keys: Keys, environ: dict[str, str], tmp_path: Path
) -> None:
    """What no task list names dies, which shows that a worker has taken it."""
    mail, default = Queue(real_redis, keys, name="mail"), Queue(real_redis, keys)
    port = free_port()
    with working(environ, tmp_path, "--queues", "mail", "--metrics", f"127.0.0.1:{port}") as process:
        await default.enqueue(not_deployed, "x")
        await mail.enqueue(not_deployed, "x")

        async def dead_in(queue: Queue) -> bool:
            return (await queue.depth())["dead"] == 1

        await eventually(lambda: dead_in(mail), seconds=30)
        assert not await dead_in(default)
        metrics = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/metrics")).text
        assert 'quartet_task_starts_total{task="unknown"} 1.0' in metrics
        process.terminate()
        assert await drained(process) == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--queues", "none"], "no such queue: none"),
        (["--processes", "0"], "--processes"),
        (["--concurrency", "many"], "--concurrency"),
        (["--metrics", "9100"], "must be HOST:PORT"),
    ],
)
def test_wrong_use_of_worker_is_exit_code_2(
    environ: dict[str, str], tmp_path: Path, options: list[str], problem: str
) -> None:
    done = quartet(tmp_path, "worker", *options, **environ)
    assert done.returncode == 2
    assert problem in done.stderr


async def test_an_operator_looks_at_tasks_and_brings_dead_ones_back(
    real_redis: Redis, keys: Keys, environ: dict[str, str], tmp_path: Path
) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = quartet(tmp_path, "tasks", *arguments, **environ)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    queue = Queue(real_redis, keys)
    waiting = (await queue.enqueue(not_deployed, "x", owner=7)).id
    later = (await queue.enqueue(not_deployed, "x", delay=3600)).id
    assert run("dead") == "none\n"
    [header, row] = run("list").splitlines()
    assert header.split() == ["id", "name", "state", "attempts", "created", "error"]
    assert row.split()[:3] == [waiting, "not_deployed", "queued"]
    [listed] = json.loads(run("list", "--place", "scheduled", "--json"))
    assert (listed["id"], listed["state"]) == (later, "scheduled")
    assert json.loads(run("show", waiting, "--json"))["owner"] == 7
    assert "no task unknown" in run("show", "unknown", code=1)
    assert run("show", waiting).split()[:4] == ["id", waiting, "name", "not_deployed"]

    with working(environ, tmp_path) as process:

        async def is_dead() -> bool:
            return (await queue.depth())["dead"] == 1

        await eventually(is_dead, seconds=30)
        process.terminate()
        assert await drained(process) == 0
    [dead] = json.loads(run("dead", "--json"))
    assert (dead["id"], dead["error"]) == (waiting, "unknown task: not_deployed")
    assert "unknown task" in run("dead")
    assert json.loads(run("stats", "--json"))["depth"]["dead"] == 1
    assert "totals failed" in run("stats")
    assert run("requeue", waiting) == "requeued 1\n"
    assert "no dead task" in run("requeue", waiting, code=1)
    assert json.loads(run("purge", "--all", "--json")) == {"purged": 0}
    run("purge", code=2)
    run("purge", waiting, "--all", code=2)
    run("list", "--queue", "none", code=2)
    assert run("list", "--queue", "mail") == "none\n"
