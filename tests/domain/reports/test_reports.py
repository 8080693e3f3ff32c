"""Reports over HTTP: ordering, waiting, downloading, and who may."""

import csv
import io
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from quart import Quart

from app.domain.products.models import Category, Product
from app.domain.reports import service
from app.domain.reports.schemas import MOST_DAYS, DateRange
from app.domain.users.service import set_roles
from app.resources import Resources
from tests.domain.client import Client
from tests.domain.ownership import assert_refused_to_others, routes_with_ids
from tests.domain.reports.making import BEGIN, END, RANGE, downloaded, ordered, publish, send
from tests.domain.worker import TaskWorker

BEFORE, AFTER = BEGIN - timedelta(seconds=1), END - timedelta(seconds=1)


async def test_a_report_is_ordered_made_and_downloaded(
    client: Client, resources: Resources, worker: TaskWorker
) -> None:
    ada = await client.registered()
    await publish(resources, ada.user_id, "In March", at=BEGIN)
    accepted = await ada.post("/reports", {"type": "own_activity", "date_range": RANGE})
    assert accepted.status_code == 202
    body = await accepted.get_json()
    assert (body.keys(), body["status"]) == ({"task_id", "status", "queue_position"}, "queued")
    assert body["queue_position"] == 0
    assert accepted.headers["Location"].endswith(f"/api/v1/tasks/{body['task_id']}")
    path = f"/reports/{body['task_id']}"
    waiting = await ada.get(path)
    assert waiting.status_code == 409
    assert "queued" in (await waiting.get_json())["detail"]
    await worker.drain()
    task = await (await ada.get(f"/tasks/{body['task_id']}")).get_json()
    assert (task["state"], task["progress"], task["result"]) == ("done", 100, 1)
    answer = await ada.get(path)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="own_activity_2026-03-01_2026-03-31.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert await answer.get_json() == {
        "type": "own_activity",
        **RANGE,
        "columns": ["kind", "id", "at", "recipient_id", "text"],
        "rows": [{"kind": "article", "id": 1, "at": "2026-03-01T00:00:00Z", "recipient_id": None, "text": "In March"}],
    }
    table = await ada.get(f"{path}?format=csv")
    assert table.content_type == "text/csv; charset=utf-8; header=present"
    assert await table.get_data(as_text=True) == (
        "kind,id,at,recipient_id,text\r\narticle,1,2026-03-01T00:00:00Z,,In March\r\n"
    )
    head = await ada.send("HEAD", path)
    assert (head.status_code, await head.get_data()) == (200, b"")
    assert head.headers["Content-Disposition"] == answer.headers["Content-Disposition"]
    for bad in ("xml", "", "CSV"):
        assert (await ada.get(f"{path}?format={bad}")).status_code == 422


async def test_an_empty_report_has_its_columns(client: Client, worker: TaskWorker) -> None:
    ada = await client.registered()
    for type in ("article_views", "own_activity", "product_catalogue"):
        task_id = await ordered(ada, type)
        await worker.drain()
        assert await downloaded(ada, task_id) == []
        table = await (await ada.get(f"/reports/{task_id}?format=csv")).get_data(as_text=True)
        assert len(table.splitlines()) == 1


async def test_article_views_has_the_articles_of_the_range(
    client: Client, resources: Resources, worker: TaskWorker
) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    for title, moment in (("Before", BEFORE), ("Last", AFTER), ("First", BEGIN), ("After", END)):
        await publish(resources, bob.user_id, title, at=moment, views=len(title))
    await publish(resources, None, "Without author", at=BEGIN)
    task_id = await ordered(ada, "article_views")
    await worker.drain()
    rows = [tuple(row.values())[1:] for row in await downloaded(ada, task_id)]
    assert rows == [
        ("First", bob.user_id, "2026-03-01T00:00:00Z", 5),
        ("Without author", None, "2026-03-01T00:00:00Z", 0),
        ("Last", bob.user_id, "2026-03-31T23:59:59Z", 4),
    ]


async def test_own_activity_is_ones_own(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    for user in (ada, bob):
        await publish(resources, user.user_id, f"By {user.user_id}", at=BEGIN)
    for moment in (BEFORE, BEGIN, END):
        await send(resources, ada.user_id, bob.user_id, ["Hello\nBob"], at=moment)
        await send(resources, bob.user_id, ada.user_id, ["Hello Ada"], at=moment)
    task_id = await ordered(ada)
    await worker.drain()
    found = [(row["kind"], row["recipient_id"], row["text"]) for row in await downloaded(ada, task_id)]
    assert found == [("article", None, f"By {ada.user_id}"), ("message", bob.user_id, "Hello Bob")]


async def test_the_catalogue_has_what_was_changed_in_the_range(
    client: Client, resources: Resources, worker: TaskWorker
) -> None:
    async with resources.database.write() as session:
        session.add(pens := Category(name="Pens"))
        await session.flush()
        for number, moment in enumerate((BEFORE, BEGIN, AFTER, END)):
            fields = {"category_id": pens.id, "name": f"P{number}", "description": "", "price_cents": 100 * number + 5}
            session.add(Product(**fields, updated_at=moment))
    ada = await client.registered()
    task_id = await ordered(ada, "product_catalogue")
    await worker.drain()
    found = [(row["name"], row["category"], row["price"]) for row in await downloaded(ada, task_id)]
    assert found == [("P1", "Pens", "1.05"), ("P2", "Pens", "2.05")]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x"]


async def test_a_spreadsheet_computes_no_cell(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    titles = [*FORMULAS, 'He said "no", and left;\r\nthen "=1"', "plain", "1-1", "'=1"]
    for title in titles:
        await publish(resources, ada.user_id, title, at=BEGIN)
    task_id = await ordered(ada, "article_views")
    await worker.drain()
    table = await (await ada.get(f"/reports/{task_id}?format=csv")).get_data(as_text=True)
    found = [row[1] for row in csv.reader(io.StringIO(table, newline=""))][1:]
    assert found == [f"'{title}" if title in FORMULAS else title for title in titles]
    # JSON is for programs: each text is as it was written.
    assert [row["title"] for row in await downloaded(ada, task_id)] == titles


BAD: list[dict[str, Any]] = [
    {"type": "everything"},
    {"type": None},
    {"date_range": None},
    {"date_range": {}},
    {"date_range": {"start": "2026-03-01"}},
    *({"date_range": {"start": RANGE["start"], "end": value}} for value in ("2026-02-28", "2027-03-02", "x", None, 1)),
    *(
        {"date_range": RANGE | {"end": value}}
        for value in ("", "2026-02-30", "2026-03-31T00:00:00Z", "20260331", "2026-3-31", "٢٠٢٦-03-31")
    ),
    *({"date_range": {"start": day, "end": day}} for day in ("1999-12-31", "3000-01-01", "0000-01-01")),
    {"date_range": RANGE | {"zone": "UTC"}},
    {"owner_id": 1},
]


async def test_what_does_not_validate_is_refused(app: Quart, client: Client, resources: Resources) -> None:
    users = [await client.registered(f"ada{number}") for number in range(len(BAD) // 5 + 1)]
    for number, change in enumerate(BAD):
        # Each takes from the limit of its user.
        refused = await users[number // 5].post("/reports", {"type": "own_activity", "date_range": RANGE} | change)
        assert refused.status_code == 422, change
        assert (await refused.get_json())["errors"][0]["loc"][0] in change
    assert (await resources.queue.depth())["normal"] == 0


@given(start=st.dates(), length=st.integers(-400, 800))
def test_a_range_is_ordered_and_bounded(start: date, length: int) -> None:
    try:
        end = start + timedelta(days=length)
    except OverflowError:
        return
    allowed = 0 <= length < MOST_DAYS and start >= date(2000, 1, 1) and end <= date(2999, 12, 31)
    fields = {"start": start.isoformat(), "end": end.isoformat()}
    if allowed:
        assert DateRange.model_validate(fields) == DateRange.model_construct(start=start, end=end)
    else:
        with pytest.raises(ValidationError):
            DateRange.model_validate(fields)


async def test_a_report_of_too_many_rows_is_refused(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_ROWS", 10)
    ada = await client.registered()
    await send(resources, ada.user_id, ada.user_id, ["x"] * 10, at=BEGIN)
    assert await ordered(ada)
    await publish(resources, ada.user_id, "One more", at=BEGIN)
    refused = await ada.post("/reports", {"type": "own_activity", "date_range": RANGE})
    assert refused.status_code == 422
    assert [error["loc"] for error in (await refused.get_json())["errors"]] == [["date_range"]]


async def test_five_reports_an_hour(client: Client) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    for _ in range(5):
        await ordered(ada)
    by_key = await ada.by_api_key()
    refused = await by_key.post("/reports", {"type": "own_activity", "date_range": RANGE})
    assert (refused.status_code, refused.headers["X-RateLimit-Limit"]) == (429, "5")
    await ordered(bob)


async def test_the_reports_of_others_are_out_of_reach(
    app: Quart, client: Client, resources: Resources, worker: TaskWorker
) -> None:
    ada = await client.registered("ada")
    assert routes_with_ids(app, only="reports") == {("GET", "/api/v1/reports/<task_id>")}
    made = await ordered(ada)
    await worker.drain()
    waiting = await ordered(ada)
    await assert_refused_to_others(client, "GET", f"/reports/{made}")
    eve = await client.signed_in("eve")
    assert (await eve.get(f"/reports/{waiting}")).status_code == 403
    await set_roles(resources, eve.user_id, ["admin"])
    admin = await client.signed_in("eve")
    assert await downloaded(admin, made) == []
    assert (await admin.get(f"/reports/{waiting}")).status_code == 409


async def test_there_is_no_such_report(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    for task_id in ["x", "X", "%00", "a" * 60, "a" * 5000, "..%2F1", "٢"]:
        with subtests.test(f"{ascii(task_id):.40}"):
            assert (await ada.get(f"/reports/{task_id}")).status_code == 404


async def test_a_task_of_another_kind_is_no_report(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    await ada.post("/messages", {"recipient_id": ada.user_id, "content": "x"})
    await resources.outbox.drain()
    [info] = await resources.queue.tasks("waiting")
    assert (await ada.get(f"/reports/{info.id}")).status_code == 404


async def test_a_task_that_was_aborted_has_no_report(client: Client) -> None:
    ada = await client.registered()
    task_id = await ordered(ada)
    assert (await ada.delete(f"/tasks/{task_id}")).status_code == 202
    refused = await ada.get(f"/reports/{task_id}")
    assert (refused.status_code, "aborted" in (await refused.get_json())["detail"]) == (409, True)
