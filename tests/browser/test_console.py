"""The console in a browser."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route, expect

from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.pages.figures import parse_metrics
from app.web.routes.metrics import read_metrics
from tests.browser.axe import violations
from tests.browsing import IN_BROWSER, Account, Site, own_site_settings
from tests.commands import serving
from tests.hostile_texts import HOSTILE, harm
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = IN_BROWSER


@task(name="no-worker-knows-it", max_attempts=1)
async def unknown(_context: TaskContext, text: str) -> None:
    """Dies: the worker of the site has no task of this name."""


async def dead_tasks(site: Site, *payloads: str) -> list[str]:
    handles = await site.resources.queue.submit([unknown.call(payload) for payload in payloads])
    ids = [handle.id for handle in handles]

    async def are_dead() -> bool:
        found = [await site.resources.queue.get(each) for each in ids]
        return all(info is not None and info.state == "failed" for info in found)

    await eventually(are_dead, seconds=30)
    return ids


async def admin(site: Site) -> Account:
    return await site.account("Ada Admin", "admin")


async def test_the_console_is_for_admins(site: Site) -> None:
    for path in ("/console", "/console/tasks", "/console/tasks/default/x"):
        async with site.visit(path, account=await site.account("Bob", "editor"), expected=["403"]) as page:
            await expect(page.get_by_role("heading", level=1)).to_have_text("This is not for you to see")
            await expect(page.get_by_role("link", name="Console")).to_have_count(0)
    async with site.visit("/console") as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        form: dict[str, str | float | bool] = {"id": "x"}
        answer = await page.request.post(
            site.url("/console/tasks/default/purge"), form=form, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert answer.status == 401


async def refuse_fetches(route: Route) -> None:
    await (route.abort() if route.request.resource_type == "fetch" else route.continue_())


async def test_every_figure_is_one_of_the_metrics(site: Site) -> None:
    async with site.visit("/console", account=await admin(site), expected=["ERR_FAILED"]) as page:
        await expect(page.locator("[data-connection]")).to_have_text("Live")
        async with site.app.app_context():
            metrics = {sample.name for sample in parse_metrics(await read_metrics())}
        figures = page.locator("[data-figure]")
        shown = await figures.evaluate_all("(all) => all.map((each) => [each.dataset.metric, each.dataset.value])")
        assert len(shown) > 15
        # A counter has no sample before the first count; then it is 0.
        assert {metric for metric, value in shown if float(value)} <= metrics
        await dead_tasks(site, "x")
        dead = page.locator('[data-figure="default Failed"]')
        await expect(dead).not_to_have_attribute("data-value", "0.0")
        # The chart moves by itself.
        lines = page.locator("polyline")
        await expect(lines.first).to_have_attribute("points", re.compile(" "))
        # And goes on after a reload, with no look of its own yet.
        await page.route("**/console", refuse_fetches)
        await page.reload()
        await expect(lines.first).to_have_attribute("points", re.compile(" .* "))
        await expect(page.locator("[data-connection]")).to_have_text("Offline")
        await page.unroute_all()
        await expect(page.locator("[data-connection]")).to_have_text("Live")
        await expect(page.get_by_role("region", name="Workers")).to_contain_text("default")


async def test_a_dead_task_is_found_read_requeued_and_purged_by_mouse(site: Site) -> None:
    ids = await dead_tasks(site, "one", *HOSTILE)
    async with site.visit("/console", account=await admin(site)) as page:
        await page.get_by_role("link", name="Dead letters and other tasks").first.click()
        await page.get_by_role("searchbox").fill(ids[0][:12])
        await page.get_by_role("button", name="Search").click()
        await expect(page.get_by_role("table").get_by_role("row")).to_have_count(2)
        await page.get_by_role("link", name="no-worker-knows-it").click()
        await expect(page.locator("pre").first).to_have_text('"one"')
        await page.get_by_role("button", name="Requeue").click()
        await expect(page.locator("[data-notices]")).to_contain_text("1 dead task requeued.")
        # No worker knows it still.
        await dead_tasks(site, "two")
        for each in ids[1:]:
            await page.goto(site.url(f"/console/tasks/default/{each}"))
            assert await harm(page) == []
        assert await violations(page) == []
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Purge").click()
        await expect(page.locator("[data-notices]")).to_contain_text("1 dead task purged.")
        await page.goto(site.url("/console/tasks?q=no-worker-KNOWS"))
        await page.get_by_role("button", name="Purge all that match").click()
        await expect(page.locator("[data-notices]")).to_contain_text("purged")
        await expect(page.locator(".empty")).to_contain_text("None of these matches.")


async def test_the_console_works_without_scripts(site: Site) -> None:
    [task_id] = await dead_tasks(site, "x")
    async with site.visit(f"/console/tasks?q={task_id}", account=await admin(site), java_script_enabled=False) as page:
        await page.get_by_role("button", name="Requeue no-worker-knows-it").click()
        await expect(page.locator("[data-notices]")).to_contain_text("1 dead task requeued.")

        async def has_died_again() -> bool:
            info = await site.resources.queue.get(task_id)
            return info is not None and info.state == "failed"

        await eventually(has_died_again, seconds=30)
        await page.goto(site.url(f"/console/tasks?q={task_id}"))
        await page.get_by_role("button", name="Purge no-worker-knows-it").click()
        await expect(page.locator("[data-notices]")).to_contain_text("1 dead task purged.")
        assert await site.resources.queue.get(task_id) is None


@pytest.mark.server
async def test_the_nodes_and_workers_on_one_redis_are_listed(
    own_site: Site, own_server: RedisServer, tmp_path: Path
) -> None:
    async with own_site.visit("/console", account=await admin(own_site)) as page:
        nodes = page.get_by_role("region", name="Nodes").locator("tbody tr")
        await expect(nodes).to_have_count(1)
        second = serving(own_site_settings(tmp_path, own_server), tmp_path, "-m", "app.cli", "serve")
        process, _ = await asyncio.to_thread(second.__enter__)
        try:
            await expect(nodes).to_have_count(2)
            for pid in (os.getpid(), process.pid):
                await expect(nodes.filter(has_text=str(pid))).to_have_count(1)
                await expect(nodes.filter(has_text=str(pid))).to_contain_text("web")
        finally:
            await asyncio.to_thread(second.__exit__, None, None, None)
        await expect(nodes).to_have_count(1)


@pytest.mark.parametrize("amount", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_it_stays_light_with_many_dead_tasks(site: Site, amount: int) -> None:
    """Written into Redis as the step script leaves them; a page reads one page of them, a search a bounded number."""
    queue, keys = site.resources.queue, site.resources.keys
    place = keys.task_places(queue.name)[5]
    ids = [f"dead-{number:06}-{'0' * 20}" for number in range(amount)]
    for start in range(0, amount, 1000):
        async with site.resources.redis.pipeline(transaction=False) as pipe:
            for number, each in enumerate(ids[start : start + 1000], start):
                record: Any = {"name": "many", "state": "failed", "error": f"reason {number}", "payload": "1"}
                pipe.hset(keys.task_record(queue.name, each), mapping=record)
                pipe.zadd(place, {each: number})
            await pipe.execute()
    async with site.visit("/console", account=await admin(site)) as page:
        for path in ("/console", "/console/tasks", "/console/tasks?q=reason+17", "/console/tasks?q=nothing+like+it"):
            began = time.perf_counter()
            await page.goto(site.url(path))
            assert time.perf_counter() - began < 20
            assert len(await page.content()) < 150_000, path
            assert await page.get_by_role("row").count() <= 51
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto(site.url("/console/tasks"))
        await page.get_by_role("link", name="Next").click()
        await expect(page.get_by_role("row")).to_have_count(51)
        await page.get_by_role("button", name="Purge all").click()
        await expect(page.locator("[data-notices]")).to_contain_text("purged", timeout=60_000)
    assert (await queue.depth())["dead"] == 0
