"""The API's document in a browser: found, read and tried in the page."""

from playwright.async_api import expect

from tests.browsing import IN_BROWSER, Site

pytestmark = IN_BROWSER


async def test_an_operation_is_found_and_tried_in_the_page(site: Site) -> None:
    account = await site.account("Tess <b>Try</b>")
    async with site.visit("/docs", account=account, expected=["401"]) as page:
        await expect(page.locator("#operations")).to_have_attribute("aria-busy", "false")
        shown = page.locator(".operation:visible")
        assert await shown.count() > 20
        await page.get_by_label("Find").fill("/api/v1/profile")
        await expect(shown).to_have_count(1)
        await shown.locator("summary").click()
        await shown.get_by_role("button", name="Send").click()
        # By the browser's session.
        await expect(shown.locator("pre")).to_contain_text("200")
        await expect(shown.locator("pre")).to_contain_text('"name": "Tess <b>Try</b>"')
        await page.get_by_label("Credential").select_option(index=1)
        await page.get_by_label("Its value").fill("of-no-worth")
        await shown.get_by_role("button", name="Send").click()
        await expect(shown.locator("pre")).to_contain_text("401")


async def test_the_login_says_whom_to_sign_in_as_in_development(site: Site) -> None:
    async with site.visit("/login") as page:
        await expect(page.get_by_text("A first look?")).to_have_count(0)
        site.app.config["QUARTET_DEVELOPMENT"] = True
        try:
            await page.reload()
            await expect(page.get_by_text("A first look?")).to_contain_text("admin@")
        finally:
            site.app.config["QUARTET_DEVELOPMENT"] = False
