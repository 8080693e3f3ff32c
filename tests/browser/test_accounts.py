"""Signing in and the settings of an account, in a browser."""

from io import BytesIO
from urllib.parse import quote, urlencode

from PIL import Image
from playwright.async_api import Page, expect

from app.domain.users.models import User
from app.domain.users.reset_token import fingerprint_of, make_reset_token
from tests.browsing import IN_BROWSER, PASSWORD, Account, Site
from tests.hostile_texts import HOSTILE, harm, packed
from tests.waiting import eventually

pytestmark = IN_BROWSER


async def sign_in(page: Page, account: Account, password: str = PASSWORD) -> None:
    await page.get_by_label("Email address").fill(account.email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_registering_by_keyboard_alone(site: Site) -> None:
    async with site.visit("/register?next=/settings") as page:
        await page.get_by_label("Name").focus()
        for text in ("Kay Board", "kay@example.com", PASSWORD):
            await page.keyboard.type(text)
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/settings")
        await expect(page.get_by_label("Name", exact=True)).to_have_value("Kay Board")


async def test_a_login_without_scripts_says_what_is_wrong_keeps_the_name_and_signs_in_and_out(site: Site) -> None:
    account = await site.account()
    async with site.visit("/login?next=/settings", java_script_enabled=False, expected=["401"]) as page:
        await sign_in(page, account, "wrong")
        await expect(page.get_by_role("alert")).to_contain_text("is wrong")
        await expect(page.get_by_label("Email address")).to_have_value(account.email)
        assert "Error:" in await page.title()
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        await page.goto(site.url("/settings"))
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_the_summary_of_errors_has_the_focus_and_leads_to_the_field(site: Site) -> None:
    async with site.visit("/register", expected=["422"]) as page:
        await page.evaluate("document.querySelector('main form').noValidate = true")
        await page.get_by_label("Name").fill("<b>Ada</b>")
        await page.get_by_label("Email address").fill("no address")
        await page.get_by_label("New password").fill("short")
        await page.get_by_role("button", name="Register").click()
        await expect(page.get_by_role("alert")).to_be_focused()
        await expect(page.get_by_label("Name")).to_have_value("<b>Ada</b>")
        await page.get_by_role("alert").get_by_role("link", name="New password").click()
        await expect(page.get_by_label("New password")).to_be_focused()
        described = await page.get_by_label("New password").get_attribute("aria-describedby")
        assert described == "password-hint password-wrong"


async def test_a_form_is_sent_once(site: Site) -> None:
    account = await site.account()
    async with site.visit("/settings", account=account) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        await page.get_by_label("What the new key is for").fill("twice")
        button = "document.querySelector('form[action=\\'/settings/keys\\'] button')"
        await page.evaluate(f"{button}.click(); {button}.click(); {button}.click()")
        await expect(page.locator("[data-key]")).to_contain_text("qk_")
        assert len(sent) == 1


async def test_the_link_of_the_mail_sets_a_new_password(site: Site) -> None:
    account = await site.account()
    async with site.resources.database.read(primary=True) as session:
        user = await session.get(User, account.id)
    assert user is not None
    fingerprint = fingerprint_of(user.email, user.password_hash)
    token = make_reset_token(account.id, fingerprint=fingerprint, secret_key=site.resources.secret_key)
    async with site.visit(f"/password-reset/confirm?token={token}", expected=["422"]) as page:
        await page.get_by_label("New password").fill("another good password")
        await page.get_by_role("button", name="Set the password").click()
        await expect(page.locator("[data-notices]")).to_contain_text("password is changed")
        await sign_in(page, account, "another good password")
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        await page.goto(site.url(f"/password-reset/confirm?token={token}"))
        await page.get_by_label("New password").fill("yet another password")
        await page.get_by_role("button", name="Set the password").click()
        await expect(page.get_by_role("alert")).to_contain_text("was used")


async def test_a_device_is_signed_out_from_another(site: Site) -> None:
    account = await site.account()
    firefox = "Mozilla/5.0 (X11; Linux) Firefox/140"
    async with (
        site.visit("/settings", account=account, user_agent=firefox) as there,
        site.visit("/settings", account=account) as here,
    ):
        await expect(here.locator("[data-devices] li")).to_have_count(2)
        await expect(here.locator("[data-devices] .tag")).to_have_text("this device")
        await here.get_by_role("button", name="End this device, Firefox on Linux").click()
        await expect(here.locator("[data-notices]")).to_contain_text("The device is signed out.")
        await expect(here.locator("[data-devices] li")).to_have_count(1)
        await there.reload()
        await expect(there.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_all_others_end_and_a_new_password_ends_them_too(site: Site) -> None:
    account = await site.account()
    async with site.visit("/settings", account=account, java_script_enabled=False, expected=["403"]) as page:
        for _ in range(2):
            await site.cookie(account)
        await page.reload()
        await page.get_by_role("button", name="End all others").click()
        await expect(page.locator("[data-notices]")).to_contain_text("Signed out: 2 other devices.")
        await site.cookie(account)
        for current, new in (("wrong", "another password"), (PASSWORD, "another password")):
            await page.get_by_label("Current password").fill(current)
            await page.get_by_label("New password").fill(new)
            await page.get_by_role("button", name="Change the password").click()
            if current == "wrong":
                await expect(page.locator("main")).to_contain_text("current password is wrong")
                await page.goto(site.url("/settings"))
        await expect(page.locator("[data-notices]")).to_contain_text("Your password is changed")
        await expect(page.locator("[data-devices] li")).to_have_count(1)


async def test_a_picture_is_previewed_uploaded_and_deleted(site: Site) -> None:
    account = await site.account()
    image = BytesIO()
    Image.effect_noise((600, 400), 90).convert("RGB").save(image, "PNG")
    assert len(image.getvalue()) > 64 * 1024
    file = {"name": "me.png", "mimeType": "image/png", "buffer": image.getvalue()}
    async with site.visit("/settings", account=account, expected=["415"]) as page:
        await page.get_by_label("A PNG, JPEG").set_input_files(file)  # type: ignore[arg-type]
        preview = page.locator("[data-preview]")
        await eventually(lambda: _has_source(page, "data:image/png"))
        assert await preview.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 600
        await page.get_by_role("button", name="Upload").click()
        await expect(page.locator("[data-notices]")).to_contain_text("on its way")

        async def is_shown() -> bool:
            await page.reload()
            return await page.get_by_alt_text("Your picture").count() == 1

        await eventually(is_shown, seconds=60)
        assert await preview.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 256
        await page.get_by_role("button", name="Delete the picture").click()
        await expect(page.get_by_alt_text("Your picture")).to_have_count(0)
        text = {"name": "me.png", "mimeType": "image/png", "buffer": b"no image"}
        await page.get_by_label("A PNG, JPEG").set_input_files(text)  # type: ignore[arg-type]
        await page.get_by_role("button", name="Upload").click()
        await expect(page.get_by_role("alert")).to_contain_text("PNG, JPEG, GIF or WebP")


async def _has_source(page: Page, beginning: str) -> bool:
    return str(await page.locator("[data-preview]").get_attribute("src")).startswith(beginning)


async def test_a_key_is_shown_once_works_and_is_revoked(site: Site) -> None:
    account = await site.account()
    async with site.visit("/settings", account=account, expected=["422"]) as page:
        await page.get_by_label("What the new key is for").fill("\u200b")
        await page.get_by_role("button", name="Make a key").click()
        await expect(page.locator("#key-wrong")).to_contain_text("visible character")
        await page.get_by_label("What the new key is for").fill("A script")
        await page.get_by_role("button", name="Make a key").click()
        key = await page.locator("[data-key]").inner_text()
        answer = await page.request.get(site.url("/api/v1/profile"), headers={"API-Key": key, "Cookie": ""})
        assert (await answer.json())["user_id"] == account.id
        await page.goto(site.url("/settings"))
        assert key not in await page.content()
        await page.get_by_role("button", name="Revoke A script").click()
        await expect(page.locator("[data-notices]")).to_contain_text("revoked")
        answer = await page.request.get(site.url("/api/v1/profile"), headers={"API-Key": key, "Cookie": ""})
        assert answer.status == 401


async def test_hostile_texts_stay_texts(site: Site) -> None:
    """In names, addresses, errors and the paths that lead back."""
    account = await site.account()
    async with site.visit("/settings", account=account, user_agent=HOSTILE[1], expected=["422", "401", "404"]) as page:
        for text in packed(100):
            await page.get_by_label("Name", exact=True).fill(text)
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_label("Name", exact=True)).to_have_value(text)
            assert await harm(page) == []
        await page.context.clear_cookies()
        for text in ("javascript:window.hurt=1", "//evil.example/<script>", packed(1000)[0]):
            await page.goto(f"{site.url('/login')}?{urlencode({'next': text})}")
            await page.get_by_label("Password").fill("wrong")
            await page.get_by_label("Email address").fill("a@example.com")
            assert await page.locator("input[name=next]").input_value() == "/"
            assert await harm(page) == []
        await page.goto(site.url(f"/{quote(HOSTILE[0])}"))
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
        assert await harm(page) == []
