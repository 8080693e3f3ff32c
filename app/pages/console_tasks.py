"""The console's pages of tasks: a place of a queue page by page, a search, one task, requeue and purge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args
from urllib.parse import urlencode

import msgspec
from pydantic import BaseModel, Field, StringConstraints
from quart import Blueprint, flash, redirect, render_template, request
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.errors import NotFound
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.queue import Place, Queue
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, validated
from app.web.identity import auth
from app.web.number import PLAIN_DIGITS

TASKS = "/console/tasks"
PER_PAGE = 50
# Records that one request reads for a search; the page says where it stopped, and goes on from there.
MOST_SEARCHED = 2000
# And for requeueing or purging what a search finds.
MOST_CHANGED = 20_000
CHUNK = 500
PLACES = get_args(Place)

blueprint = Blueprint("console_tasks", __name__, template_folder="templates", url_prefix=TASKS)
auth.require_auth("cookie")(blueprint)
auth.require_role("admin")(blueprint)


class TaskQuery(BaseModel):
    """`q`: a part of the name, the id or the error of tasks."""

    queue: str = "default"
    place: Place = "dead"
    q: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = ""
    offset: Annotated[int, Field(ge=0, le=10_000_000), PLAIN_DIGITS] = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A page of tasks. `next_offset`: where the next one begins; None: there are no more. `searched`: records read."""

    tasks: Sequence[TaskInfo]
    next_offset: int | None
    searched: int


def _queue(name: str) -> Queue:
    found = resources().queues.get(name)
    if found is None:
        raise NotFound("There is no such queue.")
    return found


def _matches(info: TaskInfo, text: str) -> bool:
    wanted = text.casefold()
    return any(wanted in each.casefold() for each in (info.name, info.id, info.error or ""))


async def _find(queue: Queue, query: TaskQuery, *, most: int = PER_PAGE, most_searched: int = MOST_SEARCHED) -> Found:
    if not query.q:
        tasks = await queue.tasks(query.place, offset=query.offset, limit=most + 1)
        return Found(tasks[:most], query.offset + most if len(tasks) > most else None, len(tasks))
    found: list[TaskInfo] = []
    offset = query.offset
    while offset - query.offset < most_searched:
        chunk = await queue.tasks(query.place, offset=offset, limit=CHUNK)
        for number, info in enumerate(chunk):
            if len(found) == most:
                return Found(found, offset + number, offset + number - query.offset)
            if _matches(info, query.q):
                found.append(info)
        offset += CHUNK
        if len(chunk) < CHUNK:
            return Found(found, None, offset - CHUNK + len(chunk) - query.offset)
    return Found(found, offset, offset - query.offset)


@blueprint.get("")
@hide
async def list_tasks() -> str:
    query = validated(TaskQuery, request.args)
    queue = _queue(query.queue)
    depth = await queue.depth()
    counts = {
        "waiting": depth["high"] + depth["normal"] + depth["low"] + depth["limited"],
        **{place: depth[place] for place in ("scheduled", "running", "dead")},
    }
    return await render_template(
        "console_tasks.html",
        query=query,
        found=await _find(queue, query),
        counts=counts,
        places=PLACES,
        queues=list(resources().queues),
    )


@blueprint.get("/<queue_name>/<task_id>")
@hide
async def show_task(queue_name: str, task_id: str) -> str:
    info = await _queue(queue_name).get(task_id)
    if info is None:
        raise NotFound("There is no such task, or not any more.")
    payload = msgspec.json.format(msgspec.json.encode(info.payload), indent=2).decode()
    return await render_template("console_task.html", task=info, payload=payload, queue=queue_name)


@blueprint.post("/<queue_name>/<any(requeue, purge):action>")
@hide
async def change(queue_name: str, action: str) -> ResponseReturnValue:
    """With `id`: one dead task. With `q`: those that match it. With neither: all."""
    form = await request.form
    query = validated(TaskQuery, {"queue": queue_name, "q": form.get("q", "")})
    queue = _queue(queue_name)
    act = queue.requeue if action == "requeue" else queue.purge
    rest = ""
    if form.get("id"):
        done = await act(form["id"])
    elif query.q:
        found = await _find(queue, query, most=MOST_CHANGED, most_searched=MOST_CHANGED)
        done = await act([info.id for info in found.tasks])
        rest = " There are more to look through: do it again." if found.next_offset is not None else ""
    else:
        done = await act()
    said = "requeued" if action == "requeue" else "purged"
    await flash(f"{done:,} dead task{'' if done == 1 else 's'} {said}.{rest}", "" if done else "warn")
    kept = {"queue": queue_name, "q": query.q}
    return redirect(f"{TASKS}?{urlencode({name: value for name, value in kept.items() if value})}", SEE_OTHER)
