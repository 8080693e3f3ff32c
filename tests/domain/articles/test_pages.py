"""The pages of articles in a browser."""

import asyncio
import re
from typing import Any

from playwright.async_api import Page, Route, expect

from app.domain.articles import service
from app.principal import Principal
from tests.browser.axe import violations
from tests.browsing import IN_BROWSER, PASSWORD, Account, Site
from tests.hostile_texts import HOSTILE, REORDERING, harm
from tests.waiting import eventually

pytestmark = IN_BROWSER


def principal_of(author: Account) -> Principal:
    return Principal(author.id, frozenset(), "session")


async def publish(site: Site, author: Account, title: str, content: str = "It was told in the town on a day.") -> int:
    created = await service.create_article(site.resources, principal_of(author), title=title, content=content)
    return created.article.id


async def change(site: Site, author: Account, article_id: int, title: str, content: str) -> None:
    await service.change_article(site.resources, principal_of(author), article_id, title=title, content=content)


async def is_live(page: Page) -> None:
    await expect(page.locator("[data-connection]")).to_have_attribute("data-state", "live")


async def test_new_articles_are_announced_and_do_not_move_what_is_read(site: Site) -> None:
    author = await site.account()
    for number in range(8):
        await publish(site, author, f"An older piece {number}")
    async with site.visit("/") as page:
        await is_live(page)
        read = page.get_by_role("heading", name="An older piece 3")
        announced = page.locator("[data-waiting]")
        place = await read.bounding_box()
        await publish(site, author, "A fresh piece 0")
        await expect(announced).to_have_text("1 new article")
        assert await read.bounding_box() == place
        await page.evaluate("scrollBy(0, 300)")
        place = await read.bounding_box()
        for number in (1, 2):
            await publish(site, author, f"A fresh piece {number}")
        await expect(announced).to_have_text("3 new articles")
        assert await read.bounding_box() == place
        await expect(page.get_by_role("link", name="A fresh piece 0")).to_have_count(0)
        await announced.click()
        await expect(page.get_by_role("heading", name="A fresh piece 2")).to_be_visible()
        await expect(announced).to_be_hidden()
        # The summary is made by a task, and arrives in its place.
        await expect(page.locator(".entries li").first.locator("[data-summary]")).to_contain_text("told in the town")


async def test_an_event_that_arrives_while_a_list_is_fetched_is_not_overwritten(site: Site) -> None:
    author = await site.account()
    received: list[str] = []
    async with site.visit("/") as page:
        browser = await page.context.new_cdp_session(page)
        browser.on("Network.eventSourceMessageReceived", lambda message: received.append(message["eventName"]))
        await browser.send("Network.enable")
        await is_live(page)
        waiting = page.locator("[data-waiting]")
        article = await publish(site, author, "A title of before")
        await expect(waiting).to_have_text("1 new article")

        async def answer_late(route: Route) -> None:
            found = await route.fetch()
            await change(site, author, article, "A title of after", "It was told once more.")
            await publish(site, author, "Written meanwhile")
            await eventually(lambda: received.count("article_created") == 2 and "article_changed" in received)
            await route.fulfill(response=found)

        await page.route(site.url("/"), answer_late)
        await waiting.click()
        await expect(page.get_by_role("heading", name="A title of after")).to_be_visible()
        await expect(waiting).to_have_text("1 new article")
        await expect(page.get_by_role("heading", name="Written meanwhile")).to_have_count(0)


async def test_what_happens_between_the_page_and_its_stream_is_not_missed(site: Site) -> None:
    author = await site.account()
    async with site.visit(None) as page:
        held = asyncio.Event()

        async def hold(route: Route) -> None:
            await held.wait()
            await route.continue_()

        await page.route("**/api/v1/events*", hold)
        for path in ("/", "/search?q=nothing-has-this"):
            held.clear()
            await page.goto(site.url(path))
            await publish(site, author, "Told while the stream opened")
            held.set()
            await expect(page.locator("[data-waiting]")).to_have_text("1 new article")
            await is_live(page)


async def test_a_page_that_missed_events_catches_up_and_tries_again_where_it_cannot(site: Site) -> None:
    await publish(site, await site.account(), "Popular at once")
    held, refused = asyncio.Event(), asyncio.Event()

    async def answer(route: Route) -> None:
        if route.request.resource_type == "document":
            found = await route.fetch()
            # A position of another time: its events are not known any more.
            body = re.sub('data-after="[^"]*"', 'data-after="0123456789ab-1-0"', await found.text())
            await route.fulfill(response=found, body=body)
        elif not refused.is_set():
            await held.wait()
            refused.set()
            await route.abort()
        else:
            await route.continue_()

    async with site.visit(None, expected=["ERR_FAILED"]) as page:
        await page.route(site.url("/"), answer)
        await page.goto(site.url("/"))
        state = page.locator("[data-connection]")
        await expect(state).to_have_text("Catching up…")
        held.set()
        await expect(state).to_have_text("Offline")
        await is_live(page)
        links = page.locator("#popular a")
        assert 1 <= await links.count() <= 10
        await links.first.click()
        await expect(page.locator("[data-article]")).to_be_visible()


async def test_search_as_one_types_and_reading_by_keyboard_alone(site: Site) -> None:
    author = await site.account("Grace")
    wanted = await publish(site, author, "Zanzibar opens a lighthouse", "The lamp turns.\n\nShips see it.")
    async with site.visit("/") as page:
        for _ in range(30):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.id") == "q":
                break
        await page.keyboard.type("zanzibar light")
        await expect(page.locator("#found")).to_contain_text("0 articles")
        await page.keyboard.type("house")
        await expect(page.locator("#found")).to_contain_text("1 article with")
        await eventually(lambda: page.url == site.url("/search?q=zanzibar+lighthouse"))
        await expect(page.locator("#q")).to_be_focused()
        for _ in range(5):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "Zanzibar opens a lighthouse":
                break
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/articles/{wanted}")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Zanzibar opens a lighthouse")
        await expect(page.locator("nav [aria-current=page]")).to_have_text("News")
        await expect(page.locator("main")).to_contain_text("By Grace")
        await page.go_back()
        await expect(page.locator("#q")).to_have_value("zanzibar lighthouse")


async def test_a_search_is_asked_once_a_pause_and_drops_the_one_before(site: Site) -> None:
    type_at_once = """(text) => {
        const field = document.getElementById("q")
        for (let end = 1; end <= text.length; end++) {
            field.value = text.slice(0, end)
            field.dispatchEvent(new Event("input", { bubbles: true }))
        }
    }"""
    asked: list[str] = []
    dropped: list[str] = []
    async with site.visit(None) as page:

        async def note(route: Route) -> None:
            asked.append(route.request.url.partition("q=")[2])
            # The answer to the first never comes.
            if asked[-1] != "quagga":
                await route.continue_()

        page.on("requestfailed", lambda request: dropped.append(request.url.partition("q=")[2]))
        await page.route("**/search?*", note)
        await page.goto(site.url("/"))
        await is_live(page)
        await page.evaluate(type_at_once, "quagga")
        await eventually(lambda: asked == ["quagga"])
        await page.evaluate(type_at_once, "okapi")
        await expect(page.locator("#found")).to_contain_text("okapi")
        assert asked == ["quagga", "okapi"]
        await eventually(lambda: dropped == ["quagga"])


async def test_times_and_numbers_are_those_of_the_reader(site: Site) -> None:
    article = await publish(site, await site.account(), "On the hour")
    async with site.visit(f"/articles/{article}", locale="de-DE", timezone_id="Asia/Tokyo") as page:
        shown = page.locator("time").first
        written = await shown.get_attribute("datetime")
        expected = await page.evaluate(
            "(moment) => new Date(moment).toLocaleString('de-DE', "
            "{ dateStyle: 'medium', timeStyle: 'short', timeZone: 'Asia/Tokyo' })",
            written,
        )
        await expect(shown).to_have_text(expected)


async def test_writing_without_scripts_says_what_is_wrong_and_keeps_what_was_typed(site: Site) -> None:
    author = await site.account()
    async with site.visit("/write", account=author, java_script_enabled=False, expected=["422"]) as page:
        await page.get_by_label("Text").fill("Words that stay.")
        await page.get_by_label("Title").fill("\u200b")
        await page.get_by_role("button", name="Publish").click()
        await expect(page.get_by_role("alert")).to_contain_text("Title")
        await expect(page.get_by_label("Text")).to_have_value("Words that stay.")
        await page.get_by_label("Title").fill("Written without scripts")
        await page.get_by_role("button", name="Publish").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Written without scripts")
        await expect(page.locator("[data-notices]")).to_contain_text("published")
        await page.get_by_role("link", name="All news").click()
        await page.get_by_label("Search the articles").fill("without scripts written")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name="Written without scripts").first.click()
        await expect(page.locator(".prose")).to_have_text("Words that stay.")


async def test_what_was_typed_outlives_the_session_and_is_sent_after_signing_in_again(site: Site) -> None:
    author = await site.account()
    text = f"First line.\n\n{HOSTILE[1]}"
    async with site.visit("/write", account=author, expected=["401"], java_script_enabled=False) as page:
        await page.get_by_label("Title").fill(HOSTILE[3])
        await page.get_by_label("Text", exact=True).fill(text)
        await site.resources.sessions.end_all(author.id)
        await page.get_by_role("button", name="Publish").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Please sign in")
        async with page.expect_popup() as opened:
            await page.get_by_role("link", name="Sign in in another tab").click()
        tab = await opened.value
        await tab.get_by_label("Email address").fill(author.email)
        await tab.get_by_label("Password").fill(PASSWORD)
        await tab.get_by_role("button", name="Sign in").click()
        await expect(tab.get_by_role("button", name="Sign out")).to_be_visible()
        await page.get_by_role("button", name="Send it again").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE[3])
        await expect(page.locator(".prose")).to_have_text(text)


async def test_an_edit_without_scripts_tells_a_conflict_and_keeps_what_was_typed(site: Site) -> None:
    author, other = await site.account(), await site.account("Bob")
    article = await publish(site, author, "A first title", "As it was.")
    async with site.visit(f"/articles/{article}/edit", account=other, expected=["403"]) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("This is not for you to see")
        for action in ("edit", "delete"):
            form: dict[str, str | float | bool] = {"title": "x", "content": "x", "version": "1"}
            path, headers = f"/articles/{article}/{action}", {"Sec-Fetch-Site": "same-origin"}
            assert (await page.request.post(site.url(path), form=form, headers=headers)).status == 403
    async with site.visit(f"/articles/{article}", account=other) as page:
        await expect(page.get_by_role("link", name="Change or delete")).to_have_count(0)
    without_scripts: dict[str, Any] = {"java_script_enabled": False, "expected": ["412", "422", "404"]}
    async with site.visit(f"/articles/{article}", account=author, **without_scripts) as page:
        await page.get_by_role("link", name="Change or delete").click()
        await expect(page.get_by_label("Text")).to_have_value("As it was.")
        await page.get_by_label("Text").fill("My own words.")
        await page.get_by_label("Title").fill("\u200b")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("Title")
        await expect(page.get_by_label("Text")).to_have_value("My own words.")
        await page.get_by_label("Title").fill("My title")
        save, present = page.get_by_role("button", name="Save"), page.get_by_role("region", name="What it says now")
        for title in ("The title of another tab", "Another once more"):
            await change(site, author, article, title, "Words of another tab.")
            await save.click()
            await expect(present).to_contain_text(title)
            await expect(page.get_by_role("alert")).to_contain_text("changed since")
            await expect(page.get_by_label("Title")).to_have_value("My title")
        await save.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("My title")
        await expect(page.locator(".prose")).to_have_text("My own words.")
        await page.get_by_role("link", name="Change or delete").click()
        await expect(page.get_by_label("Title")).to_have_value("My title")
        await change(site, author, article, "Not to be deleted", "Words of another tab.")
        await page.get_by_role("button", name="Delete the article").click()
        await expect(present).to_contain_text("Not to be deleted")
        await page.get_by_role("button", name="Delete the article").click()
        await expect(page.locator("[data-notices]")).to_contain_text("The article is deleted.")
        gone = await page.goto(site.url(f"/articles/{article}/edit"))
        assert gone is not None
        assert gone.status == 404


async def test_what_was_typed_into_a_deleted_article_is_published_anew(site: Site) -> None:
    author = await site.account()
    article = await publish(site, author, "Soon gone")
    async with site.visit(f"/articles/{article}/edit", account=author, expected=["404", "412"]) as page:
        assert await violations(page) == []
        await page.get_by_label("Text").fill("To be compared.")
        await change(site, author, article, "Soon gone", "Of another tab.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("region", name="What it says now")).to_contain_text("Of another tab.")
        assert await violations(page) == []
        await page.get_by_label("Text").fill("Not to be lost.")
        await service.delete_article(site.resources, principal_of(author), article)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("no such article")
        await expect(page.get_by_label("Text")).to_have_value("Not to be lost.")
        await page.get_by_role("button", name="Publish").click()
        await expect(page.locator("[data-notices]")).to_contain_text("published")


async def test_a_change_and_a_deletion_are_told_where_the_article_is_open(site: Site) -> None:
    author = await site.account()
    article = await publish(site, author, "Under one title")
    async with site.visit("/") as news, site.visit(f"/articles/{article}") as reader:
        await is_live(news)
        await is_live(reader)
        place = await reader.locator(".prose").bounding_box()
        await change(site, author, article, "Under <b>another</b> title", "Other words.")
        await expect(news.get_by_role("heading", name="Under <b>another</b> title", exact=True)).to_be_visible()
        await expect(reader.locator("[data-changed]")).to_contain_text("has been changed")
        assert place is not None
        await reader.get_by_role("link", name="Show it as it is now").click()
        await expect(reader.locator(".prose")).to_have_text("Other words.")
        await is_live(reader)
        await service.delete_article(site.resources, principal_of(author), article)
        await expect(reader.locator("[data-changed]")).to_contain_text("has been deleted")
        await expect(news.locator(f"#article-{article}")).to_contain_text("has been deleted")
        assert await harm(news) == []
        await expect(reader.locator(".prose")).to_have_text("Other words.")


async def test_hostile_texts_stay_texts(site: Site) -> None:
    """In titles, contents, keywords, names, searches and live updates."""
    author = await site.account("<img src=x onerror=window.hurt=1>")
    async with site.visit("/") as page:
        await is_live(page)
        for text in HOSTILE:
            article = await publish(site, author, text[:200] + " end", " ".join((text, *REORDERING)) * 3)
        await expect(page.locator("[data-waiting]")).to_have_text(f"{len(HOSTILE)} new articles")
        await page.locator("[data-waiting]").click()
        await expect(page.locator(".entries li").first.locator("[data-summary]")).not_to_be_empty()
        assert await harm(page) == []
        for text in HOSTILE:
            await expect(page.get_by_text(f"{text} end", exact=True).first).to_be_visible()
            await page.locator("#q").fill(text[:100])
        await expect(page.locator("#found")).not_to_be_empty()
        assert await harm(page) == []
        await page.goto(site.url(f"/articles/{article}?next=javascript:window.hurt=1"))
        await expect(page.locator("main")).to_contain_text(author.name)
        assert await harm(page) == []


async def test_odd_addresses_are_answered_by_pages(site: Site) -> None:
    async with site.visit(None, expected=["422", "404"]) as page:
        for path in ("/?page=0", "/?page=x", "/search?q=" + "a" * 300, "/search?page=-1&q=a", "/search", "/articles/0"):
            answer = await page.goto(site.url(path))
            assert answer is not None
            assert answer.status in (200, 404, 422)
            assert answer.headers["content-type"].startswith("text/html")
        await page.goto(site.url("/?page=9999"))
        await expect(page.locator(".empty")).to_contain_text("There is nothing on this page.")
        await page.goto(site.url("/?page=99999999999"))
        await expect(page.get_by_role("heading", level=1)).to_have_text("That does not fit")
