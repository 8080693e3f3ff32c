"""How many statements each route sends, which must not grow with the rows, and that none scans a large table."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from app.resources import Resources
from tests.domain.client import Client

# A change has rows of the outbox for its event, its task and its cache tags.
MOST_OF_A_READ, MOST_OF_A_WRITE = 3, 7
# Which may be read as a whole: the number of all rows has no index that would hold it.
COUNT_OF_ALL = re.compile(r"SELECT count\(\*\) AS count_1\s+FROM \w+", re.IGNORECASE)
ROWS = 60_000
Sent = tuple[str, Any]


@contextmanager
def statements() -> Iterator[list[Sent]]:
    """What is sent in the block, by any engine, but for BEGIN and what belongs to the outbox's relay."""
    sent: list[Sent] = []

    def record(_c: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", record)


@pytest.fixture
async def ada(client: Client) -> Client:
    return await client.registered()


READS = (
    "/articles",
    "/articles?page=2&per_page=2",
    "/articles?per_page=2&cursor={cursor}",
    "/articles/popular",
    "/search?q=number",
    "/users/{user}/articles",
    "/articles/{article}",
    "/users/{user}",
)


async def publish(client: Client, number: int) -> dict[str, Any]:
    created = await client.post("/articles", {"title": f"Number {number}", "content": "Some text."})
    assert created.status_code == 201
    article: dict[str, Any] = await created.get_json()
    return article


async def test_reads_send_few_statements_and_no_more_for_more_rows(
    client: Client, ada: Client, resources: Resources
) -> None:
    counts: dict[str, list[int]] = {}
    article = await publish(ada, 0)
    for rows in (3, 12):
        for number in range(rows):
            await publish(ada, number)
        await resources.outbox.drain()
        page = await (await client.get("/articles?per_page=2")).get_json()
        for template in READS:
            path = template.format(cursor=page["next_cursor"], user=ada.user_id, article=article["id"])
            await resources.cache.invalidate_tags("articles", f"article:{article['id']}", f"user:{ada.user_id}")
            with statements() as sent:
                assert (await client.get(path)).status_code == 200
            # The relay sends its own statements, whenever it wakes.
            own = [statement for statement, _ in sent if "outbox" not in statement]
            assert own, path
            counts.setdefault(template, []).append(len(own))
    for few, many in counts.values():
        assert few == many <= MOST_OF_A_READ, counts


async def test_writes_send_few_statements(ada: Client) -> None:
    # What authentication looks up is cached from here on.
    await ada.get("/profile")
    with statements() as sent:
        article = await publish(ada, 1)
    writes = {"create": len(of_requests(sent))}
    path = f"/articles/{article['id']}"
    with statements() as sent:
        assert (await ada.put(path, {"title": "Other", "content": "Text."})).status_code == 200
    writes["change"] = len(of_requests(sent))
    with statements() as sent:
        assert (await ada.delete(path)).status_code == 204
    writes["delete"] = len(of_requests(sent))
    assert all(0 < count <= MOST_OF_A_WRITE for count in writes.values()), writes


def of_requests(sent: list[Sent]) -> list[str]:
    """Without those of the relay, which claims, postpones and deletes rows."""
    return [each for each, _ in sent if not re.match(r"(WITH|UPDATE outbox|DELETE FROM outbox)", each)]


async def fill(resources: Resources) -> None:
    """Many articles, with their words, written by the database itself."""
    values = "'Title ' || n, 'Text', '[]', n % 977, 1, 0, '2026-01-01 00:00:00', '2026-01-01 00:00:00'"
    columns = "title, content, keywords, views, version, processed_version, published_at, updated_at"
    async with resources.database.write() as session:
        if session.dialect == "sqlite":
            series = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) "  # noqa: S608
            await session.execute(text(f"INSERT INTO articles ({columns}) {series} SELECT {values} FROM s"))  # noqa: S608
            index = "INSERT OR REPLACE INTO articles_search (rowid, words) SELECT id, 'title word' || id FROM articles"
        else:
            series = f"FROM generate_series(1, {ROWS}) AS s(n)"
            moment = values.replace("'2026-01-01 00:00:00'", "TIMESTAMPTZ '2026-01-01'")
            await session.execute(text(f"INSERT INTO articles ({columns}) SELECT {moment} {series}"))
            words = "array_to_tsvector(ARRAY['title', 'word' || id])"
            index = f"INSERT INTO articles_search SELECT id, {words} FROM articles ON CONFLICT DO NOTHING"  # noqa: S608
        await session.execute(text(index))
        await session.execute(text("ANALYZE"))


async def plan_of(resources: Resources, statement: str, parameters: Any) -> str:
    async with resources.database.write() as session:
        connection = await session._session.connection()
        explain = "EXPLAIN QUERY PLAN " if session.dialect == "sqlite" else "EXPLAIN "
        result = await connection.exec_driver_sql(explain + statement, parameters)
        return "\n".join(" ".join(map(str, row)) for row in result)


def scans(plan: str) -> list[str]:
    """The tables that are read as a whole, without an index."""
    postgres = re.findall(r"Seq Scan on (\w+)", plan)
    sqlite = [name for name, rest in re.findall(r"\bSCAN (\w+)(.*)", plan) if not re.search("INDEX", rest)]
    return [name for name in (*postgres, *sqlite) if name not in ("articles_search",) or name in postgres]


async def test_no_statement_scans_a_large_table(client: Client, ada: Client, resources: Resources) -> None:
    article = await publish(ada, 1)
    await fill(resources)
    await resources.outbox.drain()
    page = await (await client.get("/articles?per_page=2")).get_json()
    await resources.cache.invalidate_tags("articles", f"article:{article['id']}", f"user:{ada.user_id}")
    with statements() as sent:
        for template in (*READS, "/search?q=word77"):
            path = template.format(cursor=page["next_cursor"], user=ada.user_id, article=article["id"])
            path = path.replace("q=number", "q=number+1")
            assert (await client.get(path)).status_code == 200, path
        await ada.put(f"/articles/{article['id']}", {"title": "Other", "content": "Text."})
        await ada.delete(f"/articles/{article['id']}")
    judged = [
        (statement, parameters)
        for statement, parameters in sent
        if "articles" in statement and "outbox" not in statement and not COUNT_OF_ALL.fullmatch(statement)
    ]
    assert len(judged) >= 8
    for statement, parameters in judged:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = await plan_of(resources, statement, parameters)
            assert "articles" not in scans(plan), json.dumps([statement, plan])


async def test_the_test_of_plans_finds_a_scan(client: Client, ada: Client, resources: Resources) -> None:
    await fill(resources)
    statement = "SELECT id FROM articles WHERE title = 'Title 7'"
    assert "articles" in scans(await plan_of(resources, statement, ()))
