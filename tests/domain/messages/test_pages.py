"""The inbox in browsers."""

from playwright.async_api import expect

from app.domain.messages import service
from app.domain.messages.schemas import NewMessage
from app.principal import Principal
from tests.browser.axe import violations
from tests.browsing import IN_BROWSER, PASSWORD, Site
from tests.hostile_texts import HOSTILE, REORDERING, harm

pytestmark = IN_BROWSER


async def test_two_browsers_talk(site: Site) -> None:
    ada, bob = await site.account("Ada"), await site.account("Bob")
    async with site.visit("/inbox", account=ada) as hers, site.visit("/inbox", account=bob) as his:
        for page in (hers, his):
            await expect(page.locator("[data-connection]")).to_have_attribute("data-state", "live")
        # He is online, so she need not know his address.
        await hers.locator("#online").get_by_role("link", name="Bob").click()
        await expect(hers.get_by_role("heading", name="To Bob")).to_be_visible()
        await his.get_by_role("textbox", name="Message").fill("What he is writing stays.")
        await hers.get_by_role("textbox", name="Message").fill("Hello,\n\nBob!")
        await hers.get_by_role("button", name="Send").click()
        await expect(hers.locator("[data-notices]")).to_contain_text("sent")
        message = his.locator(".entries li").filter(has_text="Hello,")
        await expect(message).to_contain_text("Ada")
        await expect(his.locator(".tabs")).to_contain_text("1 unread")
        await expect(message.locator(".dot")).to_have_attribute("data-online", "true")
        await expect(his.get_by_role("textbox", name="Message")).to_have_value("What he is writing stays.")
        await message.get_by_role("button", name="Mark as read").click()
        await expect(his.locator(".tabs")).not_to_contain_text("unread")
        await his.get_by_role("link", name="Answer").click()
        # The form of the page before it has the same field.
        await expect(his.get_by_role("heading", name="To Ada")).to_be_visible()
        await his.get_by_role("textbox", name="Message").fill("Hello, Ada!")
        # By keyboard: from the text to the button.
        await his.keyboard.press("Tab")
        await his.keyboard.press("Enter")
        await expect(his.locator("[data-notices]")).to_contain_text("sent")
        await hers.get_by_role("link", name="Inbox").nth(1).click()
        await expect(hers.locator(".entries")).to_contain_text("Hello, Ada!")
        await hers.get_by_role("link", name="Sent").click()
        await expect(hers.locator(".entries")).to_contain_text("Hello, Bob!")
        await expect(hers.locator(".entries")).not_to_contain_text("not read yet")
        assert await violations(his) == []


async def test_writing_without_scripts_says_what_is_wrong_and_keeps_what_was_typed(site: Site) -> None:
    ada, bob = await site.account("Ada"), await site.account("Bob")
    async with site.visit("/inbox", account=ada, java_script_enabled=False, expected=["422"]) as page:
        await expect(page.locator(".empty")).to_contain_text("Nobody has written")
        await page.get_by_label("To").fill("nobody@example.com")
        await page.get_by_role("textbox", name="Message").fill("Is anybody there?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#to-wrong")).to_contain_text("Nobody here has this address")
        await expect(page.get_by_role("textbox", name="Message")).to_have_value("Is anybody there?")
        await page.get_by_label("To").fill(bob.email)
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator(".entries")).to_contain_text("Is anybody there?")
        await expect(page.locator(".entries")).to_contain_text("not read yet")
        await page.goto(site.url(f"/inbox?to={bob.id}"))
        await page.get_by_role("textbox", name="Message").fill("   ")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#content-wrong")).to_contain_text("at least 1 character")
        await expect(page.get_by_role("heading", name="To Bob")).to_be_visible()


async def test_hostile_texts_stay_texts_and_live_ones_too(site: Site) -> None:
    ada, bob = await site.account(HOSTILE[1]), await site.account("Bob")
    texts = [*HOSTILE, *REORDERING]
    principal = Principal(ada.id, frozenset(), "cookie")
    async with site.visit("/inbox", account=bob) as his:
        await expect(his.locator("[data-connection]")).to_have_attribute("data-state", "live")
        for text in texts:
            await service.send_message(site.resources, principal, NewMessage(recipient_id=bob.id, content=f"{text}!"))
        await expect(his.locator(".entries li")).to_have_count(len(texts))
        shown = await his.locator(".message").all_text_contents()
        assert [text.strip() for text in reversed(shown)] == [f"{text}!" for text in texts]
        assert await harm(his) == []
        # A name without a space, beside "Online now", on a narrow screen.
        async with site.visit("/inbox", account=await site.account("W" * 100)):
            await his.set_viewport_size({"width": 320, "height": 640})
            await expect(his.locator("#online")).to_contain_text("W" * 100)
            assert await his.evaluate("document.documentElement.scrollWidth") <= 320
        await his.goto(site.url(f"/inbox?to={ada.id}"))
        await expect(his.get_by_role("heading", name=f"To {ada.name}")).to_be_visible()
        assert await harm(his) == []


async def test_a_logout_on_one_device_is_seen_on_the_other(site: Site) -> None:
    account = await site.account()
    async with (
        site.visit("/inbox", account=account, expected=["401"]) as there,
        site.visit("/settings", account=account) as here,
    ):
        await expect(there.locator("[data-connection]")).to_have_attribute("data-state", "live")
        await there.get_by_role("textbox", name="Message").fill("What is typed stays.")
        await here.get_by_role("button", name="End all others").click()
        await expect(there.locator("[data-notices]")).to_contain_text("You are signed out on this device.")
        await expect(there.get_by_role("textbox", name="Message")).to_have_value("What is typed stays.")
        await there.locator("[data-notices]").get_by_role("link", name="Sign in").click()
        await there.get_by_label("Email address").fill(account.email)
        await there.get_by_label("Password").fill(PASSWORD)
        await there.get_by_role("button", name="Sign in").click()
        await there.wait_for_url("**/inbox")


async def test_odd_addresses_are_answered_by_pages(site: Site) -> None:
    ada = await site.account()
    async with site.visit(None, account=ada, expected=["422", "404"]) as page:
        for query in ("box=x", "before=0", "before=x", "to=" + "9" * 30, "to=-1", "to=%C2%B2", "limit=1000"):
            answer = await page.goto(site.url(f"/inbox?{query}"))
            assert answer is not None
            assert answer.status in (200, 422), query
