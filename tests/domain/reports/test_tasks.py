"""How a report is made: in parts, again after a failure, for an account that is deleted, and until it expires."""

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.db.base import now
from app.domain.products.models import Category, Product
from app.domain.reports import store
from app.domain.reports import tasks as report_tasks
from app.domain.reports.models import Report, ReportPart
from app.domain.reports.schemas import ReportType
from app.domain.reports.service import get_report, read_parts
from app.domain.reports.tasks import ROWS_A_PART, Order, expire_reports
from app.domain.users.models import User
from app.errors import Conflict
from app.kit.tasks.context import TaskContext
from app.kit.tasks.outcome import Fail
from app.principal import Principal
from app.resources import Resources
from app.settings import Settings
from tests.domain.client import Client
from tests.domain.reports.making import BEGIN, downloaded, make, ordered, publish, send
from tests.domain.statements import full_scans, plans, recorded
from tests.domain.worker import TaskWorker

ORDER = Order("own_activity", date(2026, 3, 1), date(2026, 3, 31))


async def counts(resources: Resources) -> tuple[int, int]:
    """How many reports and parts there are."""
    async with resources.database.read(primary=True) as session:
        found = [await session.scalar(select(func.count()).select_from(model)) for model in (Report, ReportPart)]
    return found[0] or 0, found[1] or 0


async def test_a_report_is_made_and_sent_in_parts(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    contents = [f"{number}" for number in range(2 * ROWS_A_PART + 1)]
    await send(resources, ada.user_id, ada.user_id, contents, at=BEGIN)
    progress: list[int | None] = []
    assert await make(resources, ORDER, owner=ada.user_id, report=progress.append) == len(contents)
    assert progress == [49, 99, 100]
    assert await counts(resources) == (1, 3)
    owner = Principal(ada.user_id, frozenset(), "session")
    report = await get_report(resources, owner, "t1")
    # One query a part, and no part before it is asked for.
    with recorded() as statements:
        sizes = [(len(rows), len(statements)) async for rows in read_parts(resources, report)]
    assert sizes == [(ROWS_A_PART, 1), (ROWS_A_PART, 2), (1, 3)]
    assert [row["text"] for row in await downloaded(ada, "t1")] == contents


async def test_its_progress_is_told_and_ends(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    task_id = await ordered(ada)
    await worker.drain()
    events = await ada.get(f"/tasks/{task_id}/events")
    assert events.status_code == 200
    assert "event: done" in await events.get_data(as_text=True)


async def test_an_attempt_that_fails_shows_nothing_and_the_next_one_all(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await client.registered()
    await send(resources, ada.user_id, ada.user_id, ["x"] * (ROWS_A_PART + 1), at=BEGIN)
    create_part = store.create_part

    async def fail_at_second(session: Any, part: ReportPart) -> None:
        if part.number == 1:
            raise ZeroDivisionError
        await create_part(session, part)

    with monkeypatch.context() as patched:
        patched.setattr(store, "create_part", fail_at_second)
        with pytest.raises(ZeroDivisionError):
            await make(resources, ORDER, owner=ada.user_id)
    assert await counts(resources) == (1, 1)
    assert (await ada.get("/reports/t1")).status_code == 404
    # Two attempts at once, as after a lost lease, do not mix.
    for _ in range(2):
        assert await make(resources, ORDER, owner=ada.user_id) == ROWS_A_PART + 1
    assert len(await downloaded(ada, "t1")) == ROWS_A_PART + 1


async def test_a_deleted_account_has_no_report(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    await publish(resources, ada.user_id, "x", at=BEGIN)
    await send(resources, ada.user_id, bob.user_id, ["x"], at=BEGIN)
    views = Order("article_views", ORDER.start, ORDER.end)
    for order, rows in ((ORDER, 2), (views, 1)):
        assert await make(resources, order, owner=ada.user_id) == rows
    assert await counts(resources) == (2, 3)

    async def begin_then_delete(*args: Any, **options: Any) -> Report | None:
        report = await begin(*args, **options)
        assert (await ada.delete(f"/users/{ada.user_id}")).status_code == 200
        return report

    begin = report_tasks._begin
    with monkeypatch.context() as patched:
        patched.setattr(report_tasks, "_begin", begin_then_delete)
        with pytest.raises(Conflict):
            await make(resources, views, owner=ada.user_id)
    assert await counts(resources) == (0, 0)
    assert await make(resources, ORDER, owner=ada.user_id) is None
    assert await counts(resources) == (0, 0)
    with pytest.raises(Fail):
        await make(resources, ORDER, owner=None)


async def test_a_report_that_grows_beyond_the_bound_fails(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_tasks, "MOST_ROWS", 3)
    ada = await client.registered()
    await send(resources, ada.user_id, ada.user_id, ["x"] * 4, at=BEGIN)
    with pytest.raises(Fail, match="more than 3 rows"):
        await make(resources, ORDER, owner=ada.user_id)


async def test_reports_expire(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    await send(resources, ada.user_id, ada.user_id, ["x"], at=BEGIN)
    for number in range(25):
        await make(resources, ORDER, owner=ada.user_id, task_id=f"t{number}")
    assert len(await downloaded(ada, "t0")) == 1
    async with resources.database.write() as session:
        # An unfinished one expires too.
        await session.execute(update(Report).where(Report.task_id == "t24").values(finished_at=None))
        old = update(Report).where(Report.task_id != "t1").values(expires_at=now() - timedelta(seconds=1))
        await session.execute(old)
    assert (await ada.get("/reports/t0")).status_code == 404
    context = TaskContext(id="x", name="x", attempt=1, owner=None, resources=resources, report=lambda _: None)
    assert await expire_reports.function(context) == 24
    assert await counts(resources) == (1, 1)
    assert len(await downloaded(ada, "t1")) == 1
    assert await expire_reports.function(context) == 0


async def fill(resources: Resources, user_id: int) -> None:
    async with resources.database.write() as session:
        others = [User(email=f"{n}", name="x", password_hash="x", roles=[], created_at=now()) for n in range(5)]
        session.add(*others)
    for sender_id in (user_id, *(each.id for each in others)):
        await send(resources, sender_id, user_id, ["x"] * 500, at=BEGIN)
    for number in range(50):
        await publish(resources, user_id, "x", at=BEGIN + timedelta(minutes=number))
    async with resources.database.write() as session:
        session.add(pens := Category(name="Pens"))
        await session.flush()
        fields = {"category_id": pens.id, "name": "P", "description": "", "price_cents": 5}
        session.add(*(Product(**fields, updated_at=BEGIN + timedelta(minutes=number)) for number in range(2000)))


async def test_statements_of_an_order_do_not_grow_with_rows(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    await ada.get("/profile")
    for filled in (False, True):
        if filled:
            await fill(resources, ada.user_id)
        for type, most in (("own_activity", 2), ("product_catalogue", 1)):
            with recorded() as statements:
                await ordered(ada, type)
            assert len(statements) == most, statements


@pytest.mark.parametrize("type", ["own_activity", "product_catalogue"])
async def test_rows_and_reports_are_read_by_an_index(
    client: Client, resources: Resources, settings: Settings, type: ReportType
) -> None:
    ada = await client.registered()
    await fill(resources, ada.user_id)
    for number in range(3):
        await make(resources, ORDER, owner=ada.user_id, task_id=f"t{number}")
    last_day = date(2026, 3, 1)
    with recorded() as statements:
        await make(resources, Order(type, last_day, last_day), owner=ada.user_id, task_id="t4")
        assert (await ada.get("/reports/t4")).status_code == 200
    found = await plans(settings.database_url, statements)
    assert len(found) >= 5
    # The tables of accounts, categories and reports have a handful of rows here.
    large = {"messages", "products", "report_parts"}
    for text, plan in found.items():
        assert not large & set(full_scans(plan)), (text, plan)
