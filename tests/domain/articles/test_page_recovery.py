"""An open page while the server restarts, and while Redis is down: it recovers by itself and shows what it missed."""

import pytest
from playwright.async_api import Page, expect

from app.kit.events import sse
from tests.browsing import IN_BROWSER, Site
from tests.domain.articles.test_pages import publish
from tests.services import RedisServer

pytestmark = IN_BROWSER
# A loaded machine restarts slowly, and a client waits up to seconds before it connects again.
PATIENCE_MS = 40_000


async def shows(page: Page, state: str) -> None:
    await expect(page.locator("[data-connection]")).to_have_attribute("data-state", state, timeout=PATIENCE_MS)


async def test_a_restart_of_the_server(own_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "RETRY_MS", (50, 100))
    author = await own_site.account()
    async with own_site.visit("/", account=author, expected=["ERR_", "503"]) as page:
        await shows(page, "live")
        await publish(own_site, author, "Before the stop")
        await expect(page.locator("[data-waiting]")).to_have_text("1 new article")
        resources = own_site.resources
        await own_site.served.stop()
        await shows(page, "offline")
        await own_site.served.start()
        assert own_site.resources is not resources
        await publish(own_site, author, "After the start")
        await shows(page, "live")
        await expect(page.locator("[data-waiting]")).to_have_text("2 new articles", timeout=PATIENCE_MS)
        await page.locator("[data-waiting]").click()
        await expect(page.get_by_role("heading", name="After the start")).to_be_visible()


async def test_redis_is_killed_and_back(own_site: Site, own_server: RedisServer) -> None:
    author = await own_site.account()
    async with own_site.visit("/", expected=["ERR_", "503"]) as page:
        await shows(page, "live")
        own_server.kill()
        # Its stream stays open, and says so.
        await shows(page, "offline")
        # Committed now, and told when Redis is back.
        await publish(own_site, author, "While Redis was down")
        other = await page.context.new_page()
        await other.goto(own_site.url("/"))
        await expect(other.get_by_role("heading", name="While Redis was down")).to_be_visible()
        await shows(other, "offline")
        await other.goto(own_site.url("/settings"))
        await expect(other.get_by_role("heading", level=1)).to_be_visible()
        own_server.start()
        # By the event itself, or by what the page fetched when it was told that events are missing.
        told = page.locator("[data-waiting]:not([hidden]), h2:has-text('While Redis was down')").first
        await expect(told).to_be_visible(timeout=PATIENCE_MS)
        await shows(page, "live")
        await publish(own_site, author, "After Redis was back")
        await expect(page.locator("[data-waiting]")).to_contain_text("new article", timeout=PATIENCE_MS)
