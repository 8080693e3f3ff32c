"""Reports in a browser, from the order to the file."""

from datetime import date, timedelta
from pathlib import Path

from playwright.async_api import Route, expect

from app.domain.reports.tasks import Order, make_report
from tests.browser.axe import violations
from tests.browsing import IN_BROWSER, Site
from tests.hostile_texts import HOSTILE, harm, packed
from tests.waiting import eventually

pytestmark = IN_BROWSER


async def test_a_report_from_click_to_file(site: Site, tmp_path: Path) -> None:
    async with site.visit("/reports", account=await site.account()) as page:
        await page.get_by_label("What it is about").select_option("own_activity")
        await page.get_by_role("button", name="Make the report").click()
        await expect(page.locator("#outcome")).to_contain_text("The report is ready", timeout=30_000)
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Download CSV").click()
        file = await started.value
        assert file.suggested_filename.startswith("own_activity_")
        await file.save_as(tmp_path / "report.csv")
        assert (tmp_path / "report.csv").read_text().count(",") >= 2
        assert await violations(page) == []
        await page.get_by_role("link", name="All reports").click()
        await page.get_by_role("table").get_by_role("link", name="My articles and messages").click()
        await expect(page.get_by_role("link", name="Download JSON")).to_be_visible()


async def test_the_progress_moves_by_events_and_survives_a_reload(site: Site) -> None:
    account = await site.account()
    order = Order("own_activity", date(2026, 1, 1), date(2026, 1, 31))
    handle = await site.resources.queue.enqueue(make_report, order, owner=account.id, delay=timedelta(hours=1))
    channel = f"task:{handle.id}"
    async with site.visit(f"/reports/{handle.id}", account=account) as page:
        bar = page.get_by_label("Progress")
        await expect(bar).to_have_attribute("value", "0")
        for percent in (20, 40):
            await site.resources.publisher.publish(channel, "progress", {"progress": percent})
        await expect(page.locator("[data-says]")).to_have_text("40 %")
        await page.reload()
        await expect(page.locator("[data-says]")).to_have_text("40 %")
        assert await bar.evaluate("(bar) => bar.value") == 40
        await site.resources.publisher.publish(channel, "progress", {"progress": HOSTILE[1]})
        assert await harm(page) == []
        assert await site.resources.queue.abort(handle.id)
        await site.resources.publisher.publish(channel, "aborted", {})
        await expect(page.locator("#outcome")).to_contain_text("The report was not made.")
        assert await violations(page) == []


async def test_an_outcome_is_shown_though_the_stream_and_the_page_were_refused(site: Site) -> None:
    account = await site.account()
    order = Order("own_activity", date(2026, 1, 1), date(2026, 1, 31))
    handle = await site.resources.queue.enqueue(make_report, order, owner=account.id, delay=timedelta(hours=1))
    refused: set[str] = set()

    async def refuse_once(route: Route) -> None:
        address = route.request.url
        is_refused = address not in refused and route.request.resource_type != "document"
        refused.add(address)
        await (route.fulfill(status=503) if is_refused else route.continue_())

    async with site.visit(None, account=account, expected=["503"]) as page:
        await page.route("**/events", refuse_once)
        await page.goto(site.url(f"/reports/{handle.id}"))
        await eventually(lambda: len(refused) == 1)
        await page.route(f"**/reports/{handle.id}", refuse_once)
        await site.resources.publisher.publish(f"task:{handle.id}", "progress", {"progress": 30})
        await expect(page.locator("[data-says]")).to_have_text("30 %")
        assert await site.resources.queue.abort(handle.id)
        await site.resources.publisher.publish(f"task:{handle.id}", "aborted", {})
        await expect(page.locator("#outcome")).to_contain_text("The report was not made.")


async def test_a_wrong_order_says_what_is_wrong_without_scripts(site: Site) -> None:
    account = await site.account()
    async with site.visit("/reports", account=account, java_script_enabled=False, expected=["422", "404"]) as page:
        await page.get_by_label("First day").fill("2026-03-02")
        await page.get_by_label("Last day").fill("2026-03-01")
        await page.get_by_role("button", name="Make the report").click()
        await expect(page.locator("#end-wrong")).to_contain_text("The end is before the start")
        await expect(page.get_by_label("First day")).to_have_value("2026-03-02")
        for text in packed(200):
            form: dict[str, str | float | bool] = {"type": text, "start": text, "end": "2026-01-01"}
            await page.request.post(site.url("/reports"), form=form, headers={"Sec-Fetch-Site": "same-origin"})
            answer = await page.goto(site.url(f"/reports/{'x' * 20}"))
            assert answer is not None
            assert answer.status == 404
            assert await harm(page) == []


async def test_a_report_of_another_is_not_shown(site: Site) -> None:
    owner, other = await site.account(), await site.account()
    order = Order("own_activity", date(2026, 1, 1), date(2026, 1, 31))
    handle = await site.resources.queue.enqueue(make_report, order, owner=owner.id, delay=timedelta(hours=1))
    async with site.visit(f"/reports/{handle.id}", account=other, expected=["403"]) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("This is not for you to see")
    await site.resources.queue.abort(handle.id)
