"""The fixture by which slices test their tasks, as docs/tasks.md shows it."""

from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources
from tests.domain.client import broadcast
from tests.domain.worker import TaskWorker
from tests.guides import names_of_examples, tasks_of


@task()
async def announce(context: TaskContext, times: int) -> None:
    """Tells everyone, and enqueues itself by the outbox."""
    found: Resources = context.resources
    async with found.database.write() as session:
        found.outbox.event(session, "broadcast", "announced", {"times": times})
        if times > 1:
            found.outbox.task(session, announce, times - 1)


async def test_the_example_of_the_guide(resources: Resources) -> None:
    guide = names_of_examples("tasks.md")
    await guide["test_the_mail_is_sent"](resources, TaskWorker(resources, tuple(tasks_of(guide))))


async def test_drain_follows_what_tasks_enqueue_and_leaves_delayed_ones(resources: Resources) -> None:
    worker = TaskWorker(resources, (announce,))
    delayed = await resources.queue.enqueue(announce, 1, delay=3600)
    async with resources.database.write() as session:
        resources.outbox.task(session, announce, 3)
    await worker.drain()
    assert [told["times"] for told in await broadcast(resources, "announced")] == [3, 2, 1]
    info = await delayed.info()
    assert info is not None
    assert info.state == "scheduled"
