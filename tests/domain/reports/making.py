"""Reports made as a worker makes them, and the rows that they are made of."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from app.db.base import now
from app.domain.articles.models import Article
from app.domain.messages.models import Message
from app.domain.reports.tasks import Order, make_report
from app.kit.tasks.context import TaskContext
from app.resources import Resources
from tests.domain.client import Client

RANGE = {"start": "2026-03-01", "end": "2026-03-31"}
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
# The first moment after the range.
END = datetime(2026, 4, 1, tzinfo=UTC)


async def ordered(client: Client, type: str = "own_activity") -> str:
    """The id of the task."""
    accepted = await client.post("/reports", {"type": type, "date_range": RANGE})
    assert accepted.status_code == 202, await accepted.get_data(as_text=True)
    task_id: str = (await accepted.get_json())["task_id"]
    return task_id


async def downloaded(client: Client, task_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/reports/{task_id}")
    assert answer.status_code == 200, await answer.get_data(as_text=True)
    rows: list[dict[str, Any]] = (await answer.get_json())["rows"]
    return rows


async def make(
    resources: Resources,
    order: Order,
    *,
    owner: int | None,
    task_id: str = "t1",
    report: Callable[[int | None], None] = lambda _: None,
) -> int | None:
    """One attempt of the task."""
    context = TaskContext(id=task_id, name="make_report", attempt=1, owner=owner, resources=resources, report=report)
    result: int | None = await make_report.function(context, order)
    return result


async def publish(resources: Resources, author_id: int | None, title: str, *, at: datetime, views: int = 0) -> None:
    async with resources.database.write() as session:
        session.add(
            Article(
                author_id=author_id,
                title=title,
                content="x",
                keywords=[],
                views=views,
                published_at=at,
                updated_at=now(),
            )
        )


async def send(resources: Resources, sender_id: int, recipient_id: int, contents: list[str], *, at: datetime) -> None:
    async with resources.database.write() as session:
        session.add(
            *(
                Message(
                    sender_id=sender_id,
                    recipient_id=recipient_id,
                    content=content,
                    created_at=at + timedelta(milliseconds=number),
                )
                for number, content in enumerate(contents)
            )
        )
