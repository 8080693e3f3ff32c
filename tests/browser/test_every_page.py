"""What holds for every page of the application, whichever slices it has: found by following the links."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import Request, Response, ViewportSize, expect
from sqlalchemy import func, select

from app.db.outbox import OutboxRow
from app.domain.seed import seed
from app.resources import Resources
from tests.browser.axe import violations
from tests.browser.every_path import find_paths, pages_of
from tests.browsing import DESKTOP, IN_BROWSER, PHONE, Account, Site
from tests.waiting import eventually

pytestmark = IN_BROWSER

MOST_BYTES = 60_000
ZOOMED: ViewportSize = {"width": 640, "height": 450}
NARROW: ViewportSize = {"width": 320, "height": 640}
SHIFTED = """() => new Promise((resolve) => {
    let shifted = 0
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifted += entry.value
    }).observe({ type: "layout-shift", buffered: true })
    requestAnimationFrame(() => setTimeout(() => resolve(shifted), 50))
})"""
SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
TOO_WIDE = """() => [...document.querySelectorAll("main *")].filter((each) =>
    each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".scrolls, pre, .visually-hidden")
).map((each) => each.outerHTML.slice(0, 80))"""


async def is_at_rest(resources: Resources) -> bool:
    """Whether all that was written has been relayed, and all tasks have ended."""
    async with resources.database.read() as session:
        if await session.scalar(select(func.count()).select_from(OutboxRow)):
            return False
    depth = await resources.queue.depth()
    return depth["high"] + depth["normal"] + depth["low"] + depth["running"] == 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(site: Site) -> Account:
    """With demo data around."""
    users = await seed(site.resources)
    # Some pages are only linked from what its tasks add.
    await eventually(lambda: is_at_rest(site.resources), seconds=60)
    [found] = [user for user in users if "admin" in user.roles]
    return Account(found.id, "Ada Admin", found.email)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def paths(site: Site, admin: Account) -> dict[str, str]:
    return await find_paths(site, admin)


async def test_every_page_is_reached_by_links(site: Site, paths: dict[str, str]) -> None:
    assert pages_of(site.app) - paths.keys() == set()


async def test_axe_finds_nothing_in_light_or_dark(site: Site, admin: Account, paths: dict[str, str]) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    found = []
    async with site.visit(None, account=admin, reduced_motion="reduce") as page:
        for path in paths.values():
            await page.emulate_media(color_scheme="light")
            await page.goto(site.url(path))
            found += [f"{path}: {line}" for line in await violations(page)]
            await page.emulate_media(color_scheme="dark")
            found += [f"{path}, dark: {line}" for line in await violations(page, "color-contrast")]
    assert found == []


async def test_axe_would_find_something(site: Site) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    async with site.visit("/login") as page:
        await page.evaluate("document.querySelector('label').remove()")
        assert [line for line in await violations(page) if line.startswith("label")]


async def test_every_page_fits_its_screen_and_stays_where_it_is(
    site: Site, admin: Account, paths: dict[str, str]
) -> None:
    """At 320 px, which is also 1280 px at a zoom of 400 % (WCAG 1.4.10), at 200 %, on a phone and on a desktop."""
    async with site.visit(None, account=admin) as page:
        for path in paths.values():
            for size in (PHONE, DESKTOP):
                await page.set_viewport_size(size)
                await page.goto(site.url(path))
                assert await page.evaluate(SHIFTED) < 0.05, (path, size)
                assert not await page.evaluate(SCROLLS_SIDEWAYS), (path, size, await page.evaluate(TOO_WIDE))
            for size in (ZOOMED, NARROW):
                await page.set_viewport_size(size)
                assert not await page.evaluate(SCROLLS_SIDEWAYS), (path, size, await page.evaluate(TOO_WIDE))


async def test_every_page_is_small_and_begins_with_a_way_to_its_content(
    site: Site, admin: Account, paths: dict[str, str]
) -> None:
    """Its sheet and its scripts included, uncompressed; neither pictures nor the API's document."""
    sizes: dict[str, int] = {}
    streams: dict[str, str] = {}

    def note_stream(request: Request) -> None:
        if request.resource_type == "eventsource" and "/api/v1/events?" in request.url:
            streams[request.frame.url] = request.url

    def note(response: Response) -> None:
        if response.request.resource_type in ("document", "stylesheet", "script"):
            sizes[response.url] = int(response.headers.get("content-length", 0))

    async with site.visit(None, account=admin) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        page.on("response", note)
        page.on("request", note_stream)
        for path in paths.values():
            sizes.clear()
            await page.goto(site.url(path))
            assert len(sizes) >= 3, path
            assert 0 < sum(sizes.values()) < MOST_BYTES, (path, sizes)
            await page.evaluate("document.activeElement.blur()")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == "Skip to the content", path
            await page.keyboard.press("Enter")
            await expect(page.locator("#main")).to_be_focused()
    # A stream begins where its page was read.
    assert streams
    assert [url for url, stream in streams.items() if "last_event_id=" not in stream] == []


async def test_every_page_is_read_without_scripts(site: Site, admin: Account, paths: dict[str, str]) -> None:
    async with site.visit(None, account=admin, java_script_enabled=False) as page:
        for path in paths.values():
            await page.goto(site.url(path))
            assert await page.title(), path
            assert await page.locator("h1").count() == 1, path
            main = await page.locator("main").inner_text()
            assert len(re.findall(r"\w+", main)) >= 2, path
