"""Summary and keywords: made after each edit, told once, and never of an article as it was."""

import asyncio

from app.domain.articles.tasks import Edit, process_article
from app.resources import Resources
from tests.domain.client import Client, broadcast
from tests.domain.worker import TaskWorker
from tests.waiting import eventually

DRAFT = {
    "title": "Night trains",
    "content": "Night trains will run along the coast again. The last night train left the coast twelve years ago. "
    "Bookings for the new trains sold out within a day.",
}


async def finished(resources: Resources, edit: Edit) -> None:
    task_id = (await resources.queue.enqueue(process_article, edit)).id

    async def is_done() -> bool:
        info = await resources.queue.get(task_id)
        assert info is None or info.error is None
        return info is not None and info.state == "done"

    await eventually(is_done)


async def test_an_article_is_processed_once(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    async with worker.running():
        article = await (await ada.post("/articles", DRAFT)).get_json()
        path = f"/articles/{article['id']}"
        etag = (await client.get(path)).headers["ETag"]
        [told] = await eventually(lambda: broadcast(resources, "article_processed"))
        answer = await client.get(path, If_None_Match=etag)
        assert answer.status_code == 200
        processed = await answer.get_json()
        assert processed["summary"] == told["summary"] != ""
        assert "night trains" in " ".join(processed["keywords"])
        [in_list] = (await (await client.get("/articles")).get_json())["articles"]
        assert in_list == {name: value for name, value in processed.items() if name != "content"}
        # A task may run twice. And an edit of what was read before the summary is no conflict.
        await finished(resources, Edit(article["id"], 1))
        assert len(await broadcast(resources, "article_processed")) == 1
        assert (await ada.put(path, DRAFT, If_Match=etag)).status_code == 200


async def test_an_edit_is_processed_anew(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    article = await (await ada.post("/articles", DRAFT)).get_json()
    path = f"/articles/{article['id']}"
    await ada.put(path, {"title": "Library", "content": "The library lends tools. The library lends books too."})
    async with worker.running():
        [told] = await eventually(lambda: broadcast(resources, "article_processed"))
        assert "library" in told["keywords"]
        assert (await (await client.get(path)).get_json())["keywords"] == told["keywords"]


async def test_an_article_that_is_gone_is_let_be(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    article = await (await ada.post("/articles", DRAFT)).get_json()
    await ada.delete(f"/articles/{article['id']}")
    async with worker.running():
        await finished(resources, Edit(article["id"], 1))
        assert await broadcast(resources, "article_processed") == []


async def test_several_workers_tell_it_once(client: Client, resources: Resources, worker: TaskWorker) -> None:
    ada = await client.registered()
    article = await (await ada.post("/articles", DRAFT)).get_json()
    async with worker.running(), worker.running():
        await asyncio.gather(*(finished(resources, Edit(article["id"], 1)) for _ in range(4)))
        await eventually(lambda: broadcast(resources, "article_processed"))
    assert len(await broadcast(resources, "article_processed")) == 1
