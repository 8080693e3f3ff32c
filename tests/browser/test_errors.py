"""Error pages in a browser."""

from playwright.async_api import expect

from tests.browsing import IN_BROWSER, Site

pytestmark = IN_BROWSER


async def test_a_limited_page_counts_down_and_can_be_tried_again(site: Site) -> None:
    async with site.visit("/busy", expected=["429"]) as page:
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("One moment, please")
        seconds = page.locator("[data-countdown] strong")
        first = await seconds.text_content()
        assert first
        assert 0 < int(first.removesuffix(" s")) <= 60
        await expect(seconds).not_to_have_text(first)
        # A minute later, by the page's clock.
        await page.evaluate("const now = Date.now; Date.now = () => now() + 60_000")
        await expect(page.get_by_role("timer")).to_have_text("You can try again now.")
        await expect(page.get_by_role("link", name="Try again")).to_be_focused()


async def test_a_page_that_is_missing_offers_a_way_on(site: Site) -> None:
    async with site.visit("/no/such/page?q=<script>alert(1)</script>", expected=["404"]) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
        await page.get_by_role("link", name="To the front page").click()
        await expect(page).not_to_have_url(site.url("/no/such/page"))
