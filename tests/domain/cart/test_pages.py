"""The shop and the cart in browsers."""

import asyncio

from playwright.async_api import Route, expect

from app.domain.products import categories, service
from app.domain.products.schemas import ProductFields, ProductShown
from app.kit.aio import end_tasks
from app.kit.events.event import user_channel
from tests.browser.axe import violations
from tests.browser.test_accounts import sign_in
from tests.browsing import IN_BROWSER, Site
from tests.hostile_texts import harm, packed

pytestmark = IN_BROWSER


async def product(site: Site, name: str, price: str = "4.20") -> ProductShown:
    category = await categories.create_category(site.resources, f"{name[:60]} things")
    fields = ProductFields(name=name, description=f"About {name}", price=price, category_id=category.id)
    return await service.create_product(site.resources, fields)


async def test_a_visitors_cart_survives_the_login_and_shows_on_the_other_device(site: Site) -> None:
    lamp, account = await product(site, "Lamp"), await site.account()
    async with site.visit(f"/products/{lamp.id}", java_script_enabled=False) as page:
        await page.get_by_label("Quantity").fill("2")
        await page.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("8.40")
        await page.get_by_role("link", name="Sign in").last.click()
        await sign_in(page, account)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Cart")
        await expect(page.locator("[data-total]")).to_have_text("8.40")
        async with site.visit("/cart", account=account) as other:
            await expect(other.locator("[data-total]")).to_have_text("8.40")
            await other.get_by_label("Quantity of Lamp").fill("3")
            await other.get_by_role("button", name="Update").click()
            await expect(other.locator("[data-total]")).to_have_text("12.60")
            assert await violations(other) == []
        await page.reload()
        await expect(page.locator("[data-total]")).to_have_text("12.60")
        await page.get_by_role("button", name="Remove Lamp").click()
        await expect(page.locator(".empty")).to_contain_text("Your cart is empty")


async def test_an_open_cart_shows_what_another_device_does_and_keeps_what_is_typed(site: Site) -> None:
    stool, desk, account = await product(site, "Stool"), await product(site, "Desk", "10.00"), await site.account()
    shop = site.visit(f"/products/{stool.id}", account=account)
    async with site.visit("/cart", account=account) as page, shop as other:
        await expect(page.locator("[data-connection]")).to_have_text("Live")
        await other.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("4.20")
        await page.get_by_label("Quantity of Stool").fill("7")
        await other.goto(site.url(f"/products/{desk.id}"))
        await other.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("14.20")
        await expect(page.get_by_label("Quantity of Stool")).to_have_value("7")
        await expect(page.get_by_label("Quantity of Stool")).to_be_focused()
        await page.keyboard.press("Enter")
        # And the other way round.
        await expect(other.locator("[data-total]")).to_have_text("39.40")
        for name in ("Stool", "Desk"):
            await other.get_by_role("button", name=f"Remove {name}").click()
            await expect(page.get_by_role("button", name=f"Remove {name}")).to_have_count(0)
        await expect(page.locator(".empty")).to_contain_text("Your cart is empty")


async def test_a_visitors_cart_is_the_same_in_all_tabs(site: Site) -> None:
    shelf, account = await product(site, "Shelf"), await site.account()
    async with site.visit("/cart") as page, site.visit("/cart") as stranger:
        tab = await page.context.new_page()
        await tab.goto(site.url(f"/products/{shelf.id}"))
        await tab.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("4.20")
        await page.get_by_role("button", name="Remove Shelf").click()
        await expect(tab.locator(".empty")).to_contain_text("Your cart is empty")
        await tab.goto(site.url(f"/products/{shelf.id}"))
        await tab.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("4.20")
        await tab.get_by_role("link", name="Sign in").last.click()
        await sign_in(tab, account)
        await expect(tab.locator("[data-connection]")).to_have_text("Live")
        await tab.get_by_role("button", name="Remove Shelf").click()
        await expect(page.locator(".empty")).to_contain_text("Your cart is empty")
        await expect(stranger.locator(".empty")).to_contain_text("Your cart is empty")


async def test_a_change_is_shown_though_the_page_is_refused_and_though_events_do_not_pause(site: Site) -> None:
    clock, account = await product(site, "Clock"), await site.account()
    shop = site.visit(f"/products/{clock.id}", account=account)
    async with site.visit("/cart", account=account, expected=["503"]) as page, shop as other:
        await expect(page.locator("[data-connection]")).to_have_text("Live")
        refusals = 0

        async def refuse_twice(route: Route) -> None:
            nonlocal refusals
            refusals += 1
            await (route.fulfill(status=503) if refusals <= 2 else route.continue_())

        await page.route(site.url("/cart"), refuse_twice)
        await other.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator("[data-total]")).to_have_text("4.20")
        await expect(page.locator("[data-connection]")).to_have_text("Live")
        assert refusals > 2

        async def publish() -> None:
            while True:
                await site.resources.publisher.publish(user_channel(account.id), "cart_changed", None)
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        await other.get_by_label("Quantity of Clock").fill("2")
        await other.get_by_role("button", name="Update").click()
        await expect(page.locator("[data-total]")).to_have_text("8.40")
        await end_tasks([publishing])


async def test_a_wrong_quantity_is_said(site: Site) -> None:
    cup = await product(site, "Cup")
    async with site.visit(f"/products/{cup.id}", java_script_enabled=False) as page:
        for text in ("", "0", "100", "-1", "x", "²", "1e1"):
            answer = await page.request.post(
                site.url(f"/cart/items/{cup.id}"), form={"quantity": text}, headers={"Sec-Fetch-Site": "same-origin"}
            )
            assert answer.status == 200
            assert "from 1 to 99" in await answer.text()


async def test_a_price_changes_under_an_open_page(site: Site) -> None:
    chair = await product(site, "Chair")
    async with site.visit(f"/products/{chair.id}") as page:
        await expect(page.locator("[data-connection]")).to_have_attribute("data-state", "live")
        await page.get_by_label("Quantity").fill("7")
        fields = ProductFields(name="Armchair", description="", price="99.00", category_id=chair.category_id)
        await service.change_product(site.resources, chair.id, fields)
        await expect(page.locator("#product .price")).to_have_text("99.00")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Armchair")
        await expect(page.get_by_label("Quantity")).to_have_value("7")


async def test_hostile_texts_stay_texts(site: Site) -> None:
    async with site.visit("/products") as page:
        for text in packed(200):
            found = await product(site, text)
            for path in (f"/products?category_id={found.category_id}", f"/products/{found.id}"):
                await page.goto(site.url(path))
                await expect(page.get_by_text(text, exact=True).first).to_be_visible()
                assert await harm(page) == []
            await page.get_by_role("button", name="Add to the cart").click()
        await expect(page.locator(".entries li")).to_have_count(len(packed(200)))
        assert await harm(page) == []
