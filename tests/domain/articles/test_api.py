"""Articles over HTTP: lists, reading, writing, and what the cache shows of it."""

import dataclasses
import json
from typing import Any

import pytest

from app.db.base import now
from app.domain.articles import store
from app.domain.articles.extraction import LONGEST_SUMMARY, MOST_KEYWORDS
from app.domain.articles.models import Article
from app.domain.articles.service import read_article
from app.domain.articles.tasks import flush_views
from app.domain.articles.views import views_key
from app.domain.fields import MOST_PER_PAGE
from app.domain.seed import seed
from app.domain.users.service import set_roles
from app.kit.cache.cache import MAX_VALUE_BYTES
from app.kit.tasks.context import TaskContext
from app.resources import Resources
from tests.domain.client import Client, broadcast
from tests.keys import lasting_keys
from tests.kit.tasks.task_worker import Counted

DRAFT = {"title": "On engines", "content": "The engine weaves patterns. It has no pretensions to originate."}


async def publish(client: Client, **changes: str) -> dict[str, Any]:
    answer = await client.post("/articles", DRAFT | changes)
    assert answer.status_code == 201
    article: dict[str, Any] = await answer.get_json()
    return article


async def listed(client: Client, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/articles{query}")
    assert answer.status_code == 200
    page: dict[str, Any] = await answer.get_json()
    return page


async def flush(resources: Resources) -> None:
    context = TaskContext(id="t", name="flush_views", attempt=1, owner=None, resources=resources, report=lambda _: None)
    await flush_views.function(context)


async def test_publishing_needs_a_credential(client: Client) -> None:
    assert (await client.post("/articles", DRAFT)).status_code == 401
    ada = await client.registered()
    for credential in (ada, await ada.by_api_key()):
        created = await credential.post("/articles", DRAFT)
        assert created.status_code == 201
        article = await created.get_json()
        assert created.headers["Location"].endswith(f"/api/v1/articles/{article['id']}")
        assert article.keys() == {
            *("id", "title", "content", "summary", "keywords"),
            *("views", "author_id", "published_at", "updated_at"),
        }
        assert (article["author_id"], article["summary"], article["keywords"]) == (ada.user_id, None, [])


async def test_a_draft_that_does_not_validate_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    changes: list[dict[str, object]] = [
        {"title": " "},
        {"title": "x" * 201},
        {"content": ""},
        {"content": "a\0b"},
        {"content": 1},
        {"views": 9},
    ]
    for change in changes:
        with subtests.test(f"{ascii(change):.40}"):
            refused = await ada.post("/articles", DRAFT | change)
            assert refused.status_code == 422
            assert [error["loc"] for error in (await refused.get_json())["errors"]] == [list(change)]


async def test_publishing_tells_the_world_once(client: Client, resources: Resources) -> None:
    article = await publish(await client.registered())
    await resources.outbox.drain()
    [told] = await broadcast(resources, "article_created")
    assert told["id"] == article["id"]
    assert (await resources.queue.depth())["normal"] == 1


async def test_a_list_shows_the_latest_first_and_what_is_new_at_once(client: Client) -> None:
    ada = await client.registered()
    assert await listed(client) == {
        **{"articles": [], "total": 0, "pages": 0},
        **{"current_page": 1, "next_cursor": None},
    }
    for number in range(5):
        await publish(ada, title=f"Number {number}")
        assert (await listed(client))["articles"][0]["title"] == f"Number {number}"
    page = await listed(client, "?page=2&per_page=2")
    assert [article["title"] for article in page["articles"]] == ["Number 2", "Number 1"]
    assert (page["total"], page["pages"], page["current_page"]) == (5, 3, 2)
    beyond = await listed(client, "?page=9")
    assert (beyond["articles"], beyond["total"], beyond["current_page"]) == ([], 5, 9)


async def test_a_page_that_cannot_be_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    for value in ["-1", "0", "x", "", "1.5", str(10**30)]:
        for name in ["page", "per_page"]:
            with subtests.test(f"{ascii(value):.40} {ascii(name):.40}"):
                refused = await client.get(f"/articles?{name}={value}")
                assert refused.status_code == 422
                assert [error["loc"] for error in (await refused.get_json())["errors"]] == [[name]]


async def test_a_page_has_a_hundred_articles_at_most(client: Client) -> None:
    assert (await client.get("/articles?per_page=100")).status_code == 200
    assert (await client.get("/articles?per_page=101")).status_code == 422


async def test_an_article_that_has_not_changed_is_not_sent_again(client: Client) -> None:
    ada = await client.registered()
    path = f"/articles/{(await publish(ada))['id']}"
    first = await client.get(path)
    assert first.status_code == 200
    etag = first.headers["ETag"]
    unchanged = await client.get(path, If_None_Match=etag)
    assert (unchanged.status_code, await unchanged.get_data()) == (304, b"")
    assert unchanged.headers["ETag"] == etag
    assert (await ada.put(path, DRAFT | {"title": "Changed"})).status_code == 200
    changed = await client.get(path, If_None_Match=etag)
    assert (changed.status_code, (await changed.get_json())["title"]) == (200, "Changed")


async def test_each_reading_is_a_view(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    quiet, loud = [await publish(ada, title=title) for title in ("Quiet", "Loud")]
    etag = (await client.get(f"/articles/{loud['id']}")).headers["ETag"]
    for _ in range(3):
        assert (await client.get(f"/articles/{loud['id']}", If_None_Match=etag)).status_code == 304
    await client.get(f"/articles/{quiet['id']}")
    await flush(resources)
    await flush(resources)  # nothing is counted twice
    popular = (await (await client.get("/articles/popular")).get_json())["articles"]
    assert [(article["title"], article["views"]) for article in popular] == [("Loud", 4), ("Quiet", 1)]
    await resources.cache.invalidate_tags(f"article:{loud['id']}")
    assert (await client.get(f"/articles/{loud['id']}")).headers["ETag"] == etag


async def test_an_article_whose_view_cannot_be_counted_is_shown_and_the_defect_counted(
    client: Client, resources: Resources
) -> None:
    article = await publish(await client.registered())
    counted = Counted()
    await resources.redis.set(views_key(resources), "no hash")
    assert (await client.get(f"/articles/{article['id']}")).status_code == 200
    shown = await read_article(dataclasses.replace(resources, telemetry=counted), article["id"])
    assert shown.article.id == article["id"]
    assert (counted.counters["redis_defects:articles"], counted.counters["article_views_lost"]) == (1, 1)


@pytest.mark.parametrize("number", ["0", "99", "x", str(2**31), str(2**63), str(10**30)])
async def test_no_such_article(client: Client, resources: Resources, number: str) -> None:
    assert (await client.get(f"/articles/{number}")).status_code == 404
    assert await resources.redis.hlen(views_key(resources)) == 0


async def test_only_the_author_and_admins_write(client: Client, resources: Resources) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    path = f"/articles/{(await publish(ada))['id']}"
    assert (await client.put(path, DRAFT)).status_code == 401
    assert (await eve.put(path, DRAFT)).status_code == 403
    assert (await eve.delete(path)).status_code == 403
    await set_roles(resources, eve.user_id, ["admin"])
    admin = await client.signed_in("eve")
    assert (await admin.put(path, DRAFT)).status_code == 200
    assert (await admin.delete(path)).status_code == 204
    assert (await ada.delete(path)).status_code == 404


async def test_a_change_is_seen_at_once(client: Client) -> None:
    ada = await client.registered()
    article = await publish(ada)
    path, by_author = f"/articles/{article['id']}", f"/users/{ada.user_id}/articles"
    for cached in (path, "/articles", "/articles/popular", by_author):
        await client.get(cached)
    changed = await (await ada.put(path, {"title": "Changed", "content": "New."})).get_json()
    assert changed["updated_at"] > article["updated_at"]
    assert changed["published_at"] == article["published_at"]
    assert (await (await client.get(path)).get_json())["title"] == "Changed"
    for collection in ("/articles", "/articles/popular", by_author):
        without_content = {name: value for name, value in changed.items() if name != "content"}
        assert (await (await client.get(collection)).get_json())["articles"] == [without_content]
    assert (await ada.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    for collection in ("/articles", "/articles/popular", by_author):
        assert (await (await client.get(collection)).get_json())["articles"] == []


async def test_a_write_may_demand_the_version_that_was_read(client: Client) -> None:
    ada = await client.registered()
    path = f"/articles/{(await publish(ada))['id']}"
    read = (await client.get(path)).headers["ETag"]
    written = await ada.put(path, DRAFT, If_Match=read)
    assert written.status_code == 200
    for stale in (read, '"nonsense"', f"W/{written.headers['ETag']}"):
        assert (await ada.put(path, DRAFT, If_Match=stale)).status_code == 412
        assert (await ada.delete(path, If_Match=stale)).status_code == 412
    assert (await ada.put(path, DRAFT, If_Match="*")).status_code == 200
    now = (await client.get(path)).headers["ETag"]
    assert (await ada.delete(path, If_Match=f'"1.0", {now}')).status_code == 204


async def test_the_articles_of_an_author(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    await publish(ada, title="By Ada")
    await publish(eve, title="By Eve")
    answer = await client.get(f"/users/{ada.user_id}/articles")
    assert [article["title"] for article in (await answer.get_json())["articles"]] == ["By Ada"]
    assert (await client.get("/users/99/articles")).status_code == 404


async def test_articles_outlive_their_author(client: Client) -> None:
    ada = await client.registered()
    path = f"/articles/{(await publish(ada))['id']}"
    for cached in (path, "/articles", f"/users/{ada.user_id}/articles"):
        await client.get(cached)
    await ada.delete(f"/users/{ada.user_id}")
    assert (await (await client.get(path)).get_json())["author_id"] is None
    assert (await listed(client))["articles"][0]["author_id"] is None
    assert (await client.get(f"/users/{ada.user_id}/articles")).status_code == 404


async def test_demo_articles_are_published_once(client: Client, resources: Resources) -> None:
    await seed(resources)
    page = await listed(client, "?per_page=100")
    articles = page["articles"]
    assert page["total"] == len({article["title"] for article in articles}) == 50
    assert articles[0]["published_at"] > articles[1]["published_at"] > articles[-1]["published_at"]
    popular = (await (await client.get("/articles/popular")).get_json())["articles"]
    assert [article["id"] for article in popular] != [article["id"] for article in articles[:10]]
    # Each waits for its summary and keywords.
    await resources.outbox.drain()
    assert (await resources.queue.depth())["normal"] == 50
    assert await seed(resources) == []
    assert await listed(client, "?per_page=100") == page


async def test_the_counts_that_wait_for_the_database_are_the_only_keys_without_a_lifetime(
    client: Client, resources: Resources
) -> None:
    path = f"/articles/{(await publish(await client.registered()))['id']}"
    for cached in (path, "/articles", "/articles/popular"):
        await client.get(cached)
    assert await lasting_keys(resources) == {views_key(resources)}


async def test_lists_have_no_contents_and_a_bound(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    longest = "x" * 200
    async with resources.database.write() as session:
        for _ in range(MOST_PER_PAGE):
            moment = now()
            article = Article(
                author_id=ada.user_id,
                title=longest,
                content="é" * 500_000,
                summary="é" * LONGEST_SUMMARY,
                keywords=[longest] * MOST_KEYWORDS,
                published_at=moment,
                updated_at=moment,
            )
            await store.create_article(session, article)
    for path in (f"/articles?per_page={MOST_PER_PAGE}", "/articles/popular", f"/users/{ada.user_id}/articles"):
        answer = await client.get(path)
        body = await answer.get_data(as_text=False)
        articles = json.loads(body)["articles"]
        assert len(articles) >= 10
        assert all("content" not in each for each in articles)
        # It can be cached, so that the next one asks no database.
        assert len(body) < MAX_VALUE_BYTES / 4
        assert "Age" in (await client.get(path)).headers
