"""What holds for every page of the application, whichever slices it has: found by following the links."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import Page, Response

from app.domain.seed import seed
from tests.browser.axe import violations
from tests.browser.every_path import find_paths, pages_of
from tests.browsing import DESKTOP, IN_BROWSER, PHONE, Account, Site

pytestmark = IN_BROWSER

MOST_BYTES = 60_000
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(site: Site) -> Account:
    """With demo data around."""
    users = await seed(site.resources)
    [found] = [user for user in users if "admin" in user.roles]
    return Account(found.id, "Ada Admin", found.email)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def paths(site: Site, admin: Account) -> dict[str, str]:
    return await find_paths(site, admin)


async def test_every_page_is_reached_by_links(site: Site, paths: dict[str, str]) -> None:
    assert pages_of(site.app) - paths.keys() == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(site: Site, admin: Account, paths: dict[str, str], scheme: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    async with site.visit("/health", account=admin, color_scheme=scheme) as page:
        for path in paths.values():
            await page.goto(site.url(path))
            assert await violations(page) == [], path
            assert await page.title(), path
            assert await page.locator("h1").count() == 1, path


async def test_no_page_scrolls_sideways_nor_shifts(site: Site, admin: Account, paths: dict[str, str]) -> None:
    """At 320 px, which is also 1280 px at a zoom of 400 % (WCAG 1.4.10), at 200 %, on a phone and on a desktop."""
    async with site.visit("/health", account=admin) as page:
        for size in ({"width": 320, "height": 640}, {"width": 640, "height": 450}, PHONE, DESKTOP):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            for path in paths.values():
                await page.goto(site.url(path))
                assert not await page.evaluate(SCROLLS_SIDEWAYS), (path, size, await page.evaluate(TOO_WIDE))
                assert await page.evaluate(SHIFTED) < 0.05, (path, size)


async def test_a_first_page_is_small(site: Site, admin: Account, paths: dict[str, str]) -> None:
    """With its sheet and its scripts, uncompressed. Neither pictures nor the API's document are part of it."""
    sizes: dict[str, int] = {}

    def note(response: Response) -> None:
        if response.request.resource_type in ("document", "stylesheet", "script"):
            sizes[response.url] = int(response.headers.get("content-length", 0))

    async with site.visit("/health", account=admin) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        page.on("response", note)
        for path in paths.values():
            sizes.clear()
            await page.goto(site.url(path))
            assert len(sizes) >= 3, path
            assert 0 < sum(sizes.values()) < MOST_BYTES, (path, sizes)


async def test_every_page_is_read_without_scripts(site: Site, admin: Account, paths: dict[str, str]) -> None:
    async with site.visit("/health", account=admin, java_script_enabled=False) as page:
        for path in paths.values():
            await page.goto(site.url(path))
            assert (await page.locator("h1").inner_text()).strip(), path
            main = await page.locator("main").inner_text()
            assert len(re.findall(r"\w+", main)) >= 2, path


async def test_every_page_begins_with_a_way_to_its_content(site: Site, admin: Account, paths: dict[str, str]) -> None:
    async with site.visit("/health", account=admin) as page:
        for path in paths.values():
            await page.goto(site.url(path))
            await page.evaluate("document.activeElement.blur()")
            await page.keyboard.press("Tab")
            assert await _focused(page) == "Skip to the content", path
            await page.keyboard.press("Enter")
            await page.wait_for_function("document.activeElement.id === 'main'")


async def _focused(page: Page) -> str:
    text: str = await page.evaluate("document.activeElement.textContent")
    return text
