"""The id of a task, and of the request that caused it, stands in each line that the task logs."""

import logging

import pytest

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.eager import EagerQueue
from app.kit.tasks.task import task
from app.logs import FieldsFilter
from app.web.middleware.request_log import log_fields


@task()
async def in_loop(context: TaskContext) -> None:
    logging.getLogger("library").warning("from the loop")


@task()
def in_thread(context: TaskContext) -> None:
    logging.getLogger("library").warning("from a thread")


async def test_each_line_of_a_task_has_its_id_and_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(FieldsFilter(log_fields))
    redis = connect("memory://", name="test", timeout_seconds=5)
    queue = EagerQueue(redis, Keys("log"), [in_loop, in_thread])
    await queue.enqueue(in_loop, id="one", correlation_id="request-1")
    await queue.enqueue(in_thread, id="two")
    logging.getLogger("library").warning("from outside")
    await redis.aclose()
    ids = {
        record.message: (vars(record)["request_id"], vars(record).get("task_id"))
        for record in caplog.records
        if record.name == "library"
    }
    assert ids == {"from the loop": ("request-1", "one"), "from a thread": (None, "two"), "from outside": (None, None)}
