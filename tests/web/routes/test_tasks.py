"""The HTTP routes of tasks: who sees one, its events, its abort, and what an admin does with dead ones."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from quart import Blueprint, Quart, Response

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.domain.users.service import account_id, set_roles
from app.factory import create_app
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION
from app.web.routes import tasks as routes
from tests.domain.client import Client
from tests.kit.tasks.task_worker import ended, in_state
from tests.waiting import eventually

FRAME = re.compile(r"(?:id: (?P<id>\S+)\n)?event: (?P<type>\S+)\ndata: (?P<data>.*)\n\n")
GATES: dict[str, asyncio.Event] = {}


@task(events=True, max_attempts=1)
async def long_job(context: TaskContext, name: str) -> str:
    context.report_progress(40)
    await GATES.setdefault(name, asyncio.Event()).wait()
    if name.startswith("bad"):
        raise ValueError("no such report")
    return name


@task(max_attempts=1)
async def fail(context: TaskContext, reason: str) -> None:
    raise ValueError(reason)


SLICE = Slice(blueprint=Blueprint("jobs", __name__), tasks=(long_job, fail))


@pytest.fixture
async def app(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Quart]:
    GATES.clear()
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "TASK_QUEUES": "mail",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
    }
    app = create_app(load_settings(environ), slices=(*SLICES, SLICE))
    async with app.test_app():
        yield app


@pytest.fixture
def resources(app: Quart) -> Resources:
    opened: Resources = app.extensions[EXTENSION]
    return opened


@pytest.fixture
async def owner(app: Quart) -> Client:
    return await Client(app).registered("ada")


@pytest.fixture
async def admin(app: Quart, resources: Resources) -> Client:
    await Client(app).register("root")
    await set_roles(resources, await account_id(resources, "root@example.com"), ("admin",))
    return await Client(app).signed_in("root")


def go_on(name: str) -> None:
    GATES.setdefault(name, asyncio.Event()).set()


async def frames(response: Response) -> list[re.Match[str]]:
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-store"
    found = FRAME.finditer(await response.get_data(as_text=True))
    return [frame for frame in found if frame["type"] != "live"]


async def test_owner_and_admin_see_a_task(app: Quart, resources: Resources, owner: Client, admin: Client) -> None:
    task_id = (await resources.queue.enqueue(long_job, "a", owner=owner.user_id)).id
    await eventually(lambda: progress_of(owner, task_id, 40))
    go_on("a")
    await ended(resources.queue, task_id)
    for client in (owner, admin):
        shown = await (await client.get(f"/tasks/{task_id}")).get_json()
        fields = "id name state progress attempts created_at started_at finished_at result error"
        assert set(shown) == set(fields.split())
        assert (shown["id"], shown["name"], shown["state"], shown["result"]) == (task_id, "long_job", "done", "a")
        moments = [datetime.fromisoformat(shown[field]) for field in ("created_at", "started_at", "finished_at")]
        assert moments == sorted(moments)
    stranger = await Client(app).registered("eve")
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        assert (await stranger.send(method, f"/tasks/{task_id}{path}")).status_code == 403
        assert (await Client(app).send(method, f"/tasks/{task_id}{path}")).status_code == 401
        assert (await owner.send(method, f"/tasks/unknown{path}")).status_code == 404
        assert (await owner.send(method, f"/tasks/%7B%7D*{path}")).status_code == 404


async def progress_of(client: Client, task_id: str, progress: int) -> bool:
    shown = await (await client.get(f"/tasks/{task_id}")).get_json()
    return bool(shown["progress"] == progress)


async def test_a_task_without_an_owner_is_the_admins(resources: Resources, owner: Client, admin: Client) -> None:
    task_id = (await resources.queues["mail"].enqueue(fail, "why")).id
    await ended(resources.queues["mail"], task_id)
    assert (await owner.get(f"/tasks/{task_id}")).status_code == 403
    shown = await (await admin.get(f"/tasks/{task_id}")).get_json()
    assert (shown["state"], shown["error"]) == ("failed", "ValueError: why")


@pytest.mark.parametrize(("name", "end"), [("good", "done"), ("bad", "failed")])
async def test_a_stream_tells_the_end_and_then_stays_closed(
    resources: Resources, owner: Client, name: str, end: str
) -> None:
    task_id = (await resources.queue.enqueue(long_job, name, owner=owner.user_id)).id
    path = f"/tasks/{task_id}/events"
    streaming = asyncio.create_task(owner.get(path))
    await eventually(lambda: resources.hub.streams == 1)
    await eventually(lambda: progress_of(owner, task_id, 40))
    go_on(name)
    told = await frames(await streaming)
    types = [frame["type"] for frame in told]
    assert types[-1] == end
    assert "progress" in types
    # Who was cut off gets the rest, who has had the end gets 204, and who comes late gets all of it.
    rest = await frames(await owner.get(path, Last_Event_ID=told[-2]["id"]))
    assert [frame["type"] for frame in rest] == [end]
    assert (await owner.get(path, Last_Event_ID=told[-1]["id"])).status_code == 204
    assert [frame["type"] for frame in await frames(await owner.get(path))] == types
    assert (await owner.get(f"{path}?last_event_id={told[-1]['id']}")).status_code == 204


async def test_an_end_whose_events_are_lost_is_told_from_the_record(resources: Resources, owner: Client) -> None:
    go_on("bad")
    task_id = (await resources.queue.enqueue(long_job, "bad", owner=owner.user_id)).id
    await ended(resources.queue, task_id)
    await eventually(lambda: resources.redis.exists(resources.keys.event_stream(f"task:{task_id}")))
    await resources.redis.delete(resources.keys.event_stream(f"task:{task_id}"))
    [told] = await frames(await owner.get(f"/tasks/{task_id}/events"))
    assert told["type"] == "failed"
    assert msgspec.json.decode(told["data"])["data"] == {"error": "ValueError: no such report"}
    again = await owner.get(f"/tasks/{task_id}/events", Last_Event_ID=told["id"])
    assert again.status_code == 204


async def test_a_stream_ends_by_itself_and_resumes(
    resources: Resources, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "STREAM_SECONDS", 0.2)
    task_id = (await resources.queue.enqueue(long_job, "c", owner=owner.user_id)).id
    await in_state(resources.queue, task_id, "running")
    text = await (await owner.get(f"/tasks/{task_id}/events")).get_data(as_text=True)
    assert "retry:" in text
    assert "event: done" not in text
    go_on("c")
    await ended(resources.queue, task_id)
    last = re.findall(r"^id: (\S+)$", text, re.MULTILINE)[-1]
    rest = await frames(await owner.get(f"/tasks/{task_id}/events", Last_Event_ID=last))
    assert [frame["type"] for frame in rest][-1] == "done"


async def test_a_task_without_events_has_no_stream(resources: Resources, owner: Client) -> None:
    task_id = (await resources.queue.enqueue(fail, "x", owner=owner.user_id)).id
    assert (await owner.get(f"/tasks/{task_id}/events")).status_code == 409


async def test_delete_aborts(resources: Resources, owner: Client) -> None:
    task_id = (await resources.queue.enqueue(long_job, "d", owner=owner.user_id)).id
    await in_state(resources.queue, task_id, "running")
    answer = await owner.delete(f"/tasks/{task_id}")
    assert answer.status_code == 202
    assert await answer.get_json() == {"id": task_id}
    assert (await ended(resources.queue, task_id)).state == "aborted"
    assert (await owner.delete(f"/tasks/{task_id}")).status_code == 202
    done = (await resources.queue.enqueue(fail, "x", owner=owner.user_id)).id
    await ended(resources.queue, done)
    assert (await owner.delete(f"/tasks/{done}")).status_code == 409


async def test_an_admin_brings_dead_tasks_back(resources: Resources, owner: Client, admin: Client) -> None:
    ids = [(await resources.queue.enqueue(fail, str(number))).id for number in range(3)]
    for task_id in ids:
        await ended(resources.queue, task_id)
    listed = (await (await admin.get("/admin/tasks?place=dead")).get_json())["tasks"]
    assert {each["id"] for each in listed} == set(ids)
    assert {each["error"] for each in listed} == {"ValueError: 0", "ValueError: 1", "ValueError: 2"}
    assert 'offset=2&limit=2>; rel="next"' in (await admin.get("/admin/tasks?limit=2")).headers["Link"]
    last = await admin.get("/admin/tasks?limit=2&offset=2")
    assert (len((await last.get_json())["tasks"]), "Link" in last.headers) == (1, False)
    assert await (await admin.post(f"/admin/tasks/{ids[0]}/purge")).get_json() == {"purged": 1}
    assert (await admin.post(f"/admin/tasks/{ids[0]}/purge")).status_code == 404
    assert (await admin.post(f"/admin/tasks/{ids[0]}/requeue")).status_code == 404
    assert (await admin.get(f"/tasks/{ids[0]}")).status_code == 404
    before = await resources.queue.totals()
    assert await (await admin.post(f"/admin/tasks/{ids[1]}/requeue")).get_json() == {"requeued": 1}
    assert await (await admin.post("/admin/tasks/requeue")).get_json() in ({"requeued": 1}, {"requeued": 2})

    async def failed_again() -> bool:
        return (await resources.queue.totals())["failed"] >= before["failed"] + 2

    await eventually(failed_again)
    await eventually(lambda: purged(admin, 2))
    for method, path in (("GET", ""), ("POST", "/requeue"), ("POST", "/purge"), ("POST", f"/{ids[2]}/purge")):
        assert (await owner.send(method, f"/admin/tasks{path}")).status_code == 403
        assert (await admin.send(method, f"/admin/tasks{path}?queue=none")).status_code == 422
    assert (await admin.get("/admin/tasks?place=nowhere")).status_code == 422


async def purged(admin: Client, amount: int) -> bool:
    answer = await (await admin.get("/admin/tasks")).get_json()
    if len(answer["tasks"]) != amount:
        return False
    return bool((await (await admin.post("/admin/tasks/purge")).get_json())["purged"] == amount)


async def test_stats_tell_what_goes_on(resources: Resources, owner: Client, admin: Client) -> None:
    first = await (await admin.get("/admin/stats")).get_json()
    assert set(first["queues"]) == {"default", "mail"}
    assert first["queues"]["default"]["rates"] is None
    task_id = (await resources.queue.enqueue(fail, "x")).id
    await ended(resources.queue, task_id)
    second = await (await admin.get("/admin/stats")).get_json()
    default = second["queues"]["default"]
    assert default["depth"]["dead"] == 1
    assert default["totals"]["failed"] == 1
    assert default["rates"]["failed"] > 0
    assert second["streams"] == {"open": 0, "draining": False}
    assert second["limits"]["allowed"] > 0
    assert second["cache"] is not None
    assert (await owner.get("/admin/stats")).status_code == 403


async def test_metrics_tell_of_queues_and_of_what_ran_here(app: Quart, resources: Resources) -> None:
    task_id = (await resources.queue.enqueue(fail, "x")).id
    await ended(resources.queue, task_id)
    await resources.queues["mail"].enqueue(fail, "later", delay=3600)

    async def metrics() -> str:
        answer = await app.test_client().get("/metrics", scope_base={"client": ("127.0.0.1", 1)})
        return await answer.get_data(as_text=True)

    text = await metrics()
    for line in (
        'quartet_task_queue_depth{place="dead",queue="default"} 1.0',
        'quartet_task_queue_depth{place="scheduled",queue="mail"} 1.0',
        'quartet_task_queue_depth{place="high",queue="mail"} 0.0',
        'quartet_task_queue_oldest_seconds{queue="default"} 0.0',
        'quartet_task_queue_totals{outcome="failed",queue="default"} 1.0',
        'quartet_task_queue_up{queue="mail"} 1.0',
        'quartet_task_starts_total{task="fail"} 1.0',
        'quartet_task_ends_total{outcome="dead",task="fail"} 1.0',
        'quartet_task_seconds_count{task="fail"} 1.0',
    ):
        assert line in text
    await eventually(lambda: has_lag(metrics))


async def has_lag(metrics: Callable[[], Awaitable[str]]) -> bool:
    return "quartet_task_loop_lag_seconds_count" in await metrics()


async def test_a_stream_ends_with_the_session_that_opened_it(resources: Resources, owner: Client) -> None:
    task_id = (await resources.queue.enqueue(long_job, "e", owner=owner.user_id)).id
    streaming = asyncio.create_task(owner.get(f"/tasks/{task_id}/events"))
    await eventually(lambda: resources.hub.streams == 1)
    assert (await owner.post("/logout")).status_code == 204
    assert "event: done" not in await (await streaming).get_data(as_text=True)
    go_on("e")
