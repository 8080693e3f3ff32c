"""The pages of accounts, as a browser without JavaScript uses them."""

import re
from collections.abc import Awaitable, Callable
from html import unescape
from html.parser import HTMLParser

import pytest
from quart import Quart, Response

from app.domain.users.models import User
from app.domain.users.reset_token import fingerprint_of, make_reset_token
from app.pages.accounts import FORMS
from app.resources import Resources
from app.web.html.forms import safe_target
from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client

WRONG = {"email": "ada@example.com", "password": "wrong"}
RIGHT = {"email": "ada@example.com", "password": PASSWORD}


class Page(HTMLParser):
    """The inputs of a page by name, its text, and what would be inline."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.text = unescape(re.sub(r"<[^>]*>", "", html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "input":
            self.inputs[str(given["name"])] = given


async def page_of(answer: Response) -> Page:
    assert answer.mimetype == "text/html"
    return Page(await answer.get_data(as_text=True))


@pytest.fixture
def browser(app: Quart) -> Browser:
    return Browser.opened(app)


async def signed_in_as(browser: Browser) -> str | None:
    answer = await browser.get("/api/v1/profile")
    return (await answer.get_json())["email"] if answer.status_code == 200 else None


async def test_a_form_is_plain_html_under_the_policy(browser: Browser, subtests: pytest.Subtests) -> None:
    for path in FORMS:
        with subtests.test(f"{ascii(path):.40}"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Set-Cookie" not in answer.headers
            page = await page_of(answer)
            scripts = [attributes for tag, attributes in page.tags if tag in ("script", "style")]
            assert [each for each in scripts if not str(each.get("src")).startswith("/static/")] == []
            names = {name for _, attributes in page.tags for name in attributes}
            assert not [name for name in names if name == "style" or name.startswith("on")]
            [form] = [attributes for tag, attributes in page.tags if tag == "form"]
            assert (form["method"], form["action"]) == ("post", path)
            labels = {attributes.get("for") for tag, attributes in page.tags if tag == "label"}
            for name, given in page.inputs.items():
                assert given["type"] in ("hidden", "checkbox") or name in labels
            for tag, attributes in page.tags:
                if tag == "link" and not str(attributes["href"]).startswith("data:"):
                    assert (await browser.get(str(attributes["href"]))).status_code == 200


async def test_a_login_signs_the_browser_in_and_goes_back(client: Client, browser: Browser) -> None:
    await client.register()
    page = await page_of(await browser.get("/login", headers={"Referer": "http://localhost/inbox?box=sent"}))
    assert page.inputs["next"]["value"] == "/inbox?box=sent"
    answer = await browser.post("/login", form={**RIGHT, "next": "/inbox?box=sent"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/inbox?box=sent")
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    # Without "stay signed in" the cookie ends with the browser.
    assert "Max-Age" not in answer.headers["Set-Cookie"]
    assert await signed_in_as(browser) == "ada@example.com"
    remembered = await Browser.opened(browser.app).post("/login", form={**RIGHT, "remember": "on"})
    assert "Max-Age" in remembered.headers["Set-Cookie"]


async def test_a_wrong_login_says_so_in_the_form_and_keeps_what_was_typed(client: Client, browser: Browser) -> None:
    await client.register()
    seen = []
    for email in ("ada@example.com", "nobody@example.com"):
        answer = await browser.post("/login", form={**WRONG, "email": email, "next": "/inbox", "remember": "on"})
        assert answer.status_code == 401
        assert "Set-Cookie" not in answer.headers
        page = await page_of(answer)
        assert page.inputs["email"]["value"] == email
        assert page.inputs["next"]["value"] == "/inbox"
        assert "checked" in page.inputs["remember"]
        assert "value" not in page.inputs["password"]
        seen.append(page.text.replace(email, ""))
    assert "is wrong" in seen[0]
    # Nothing tells which of the two has an account.
    assert seen[0] == seen[1]
    assert await signed_in_as(browser) is None


async def test_the_id_changes_at_login_and_the_old_one_is_worth_nothing(client: Client, browser: Browser) -> None:
    await client.register()
    await browser.put("/api/v1/notices/draft", json={"text": "Kept"})
    before = browser.cookie
    assert (await browser.post("/login", form=RIGHT)).status_code == 303
    assert browser.cookie != before
    stranger = Browser.opened(browser.app)
    answer = await stranger.get("/api/v1/notices/draft", headers={"Cookie": before})
    assert (await answer.get_json())["text"] == ""
    # What the visitor's session held is in the new one.
    assert (await (await browser.get("/api/v1/notices/draft")).get_json())["text"] == "Kept"


async def test_too_many_wrong_logins_are_told_in_the_form(client: Client, browser: Browser) -> None:
    answers = [await browser.post("/login", form=WRONG) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    page = await page_of(answers[-1])
    assert "Try again in" in page.text
    assert page.inputs["email"]["value"] == "ada@example.com"
    # The form and the API share the limit.
    api = await client.with_headers(X_Forwarded_For="192.0.2.1").log_in()
    assert api.status_code == 429


async def test_a_login_leads_to_no_other_site(client: Client, browser: Browser, subtests: pytest.Subtests) -> None:
    await client.register()
    for target in [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:x",
        "/a\r\nSet-Cookie: x=1",
        "evil.example",
        "",
        "/" + "x" * 3000,
        " //evil.example",
        "/\x00",
    ]:
        with subtests.test(f"{ascii(target):.40}"):
            assert safe_target(target) == "/"
            answer = await browser.post("/login", form={**RIGHT, "next": target})
            assert (answer.status_code, answer.headers["Location"]) == (303, "/")


async def test_only_a_page_of_this_site_is_gone_back_to(browser: Browser, subtests: pytest.Subtests) -> None:
    for referer in ["http://evil.example/a", "http://[", "http://localhost/login", "http://localhost"]:
        with subtests.test(f"{ascii(referer):.40}"):
            page = await page_of(await browser.get("/login", headers={"Referer": referer}))
            assert page.inputs["next"]["value"] == "/"


async def test_a_login_from_another_site_is_refused(client: Client, browser: Browser) -> None:
    await client.register()
    for path, form in (("/login", RIGHT), ("/logout", {}), ("/register", RIGHT)):
        answer = await browser.post(path, form=form, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers
        assert "own pages" in (await page_of(answer)).text


async def test_logout_ends_the_session_by_post_alone(client: Client, browser: Browser) -> None:
    await client.register()
    await browser.post("/login", form=RIGHT)
    assert (await browser.get("/logout")).status_code == 200
    assert await signed_in_as(browser) is not None
    cookie = browser.cookie
    for _ in range(2):
        answer = await browser.post("/logout")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert await signed_in_as(browser) is None
    stolen = await Browser.opened(browser.app).get("/api/v1/profile", headers={"Cookie": cookie})
    assert stolen.status_code == 401


async def test_registering_signs_in_and_names_each_field_that_is_wrong(browser: Browser) -> None:
    answer = await browser.post("/register", form={"name": "Ada <b>", "email": "no address", "password": "short"})
    assert answer.status_code == 422
    page = await page_of(answer)
    assert page.inputs["name"]["value"] == "Ada <b>"
    assert "Must have at least 8 characters" in page.text
    assert {name for name, given in page.inputs.items() if "aria-invalid" in given} == {"email", "password"}
    good = {"name": "Ada", "email": "Ada@Example.com", "password": PASSWORD, "next": "/docs"}
    answer = await browser.post("/register", form=good)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/docs")
    assert await signed_in_as(browser) == "ada@example.com"
    again = await Browser.opened(browser.app).post("/register", form=good)
    assert again.status_code == 409
    assert "has an account" in (await page_of(again)).text


async def test_a_new_password_by_the_link_of_the_mail(client: Client, browser: Browser, resources: Resources) -> None:
    user_id = await client.register()
    sent = await browser.post("/password-reset", form={"email": "ada@example.com"})
    assert sent.status_code == 200
    assert "on its way" in (await page_of(sent)).text
    async with resources.database.read(primary=True) as session:
        user = await session.get(User, user_id)
    assert user is not None
    token = make_reset_token(
        user_id, fingerprint=fingerprint_of(user.email, user.password_hash), secret_key=resources.secret_key
    )
    page = await page_of(await browser.get(f"/password-reset/confirm?token={token}"))
    assert page.inputs["token"]["value"] == token
    short = await browser.post("/password-reset/confirm", form={"token": token, "password": "short"})
    assert (short.status_code, (await page_of(short)).inputs["token"]["value"]) == (422, token)
    new = {"token": token, "password": "another good password"}
    assert (await browser.post("/password-reset/confirm", form=new)).headers["Location"] == "/login"
    used = await browser.post("/password-reset/confirm", form=new)
    assert used.status_code == 422
    assert "was used" in (await page_of(used)).text
    assert (await browser.post("/login", form={**RIGHT, "password": new["password"]})).status_code == 303


async def test_any_body_is_an_answer(browser: Browser, subtests: pytest.Subtests) -> None:
    for path in FORMS:
        with subtests.test(f"{ascii(path):.40}"):
            for headers, data in (
                ({"Content-Type": "application/json"}, b"{}"),
                ({"Content-Type": "application/x-www-form-urlencoded"}, b"\xff%ff%00&email=%00&&=&next=%00"),
                ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n"),
                ({}, b""),
            ):
                answer = await browser.post(path, headers=headers, data=data)
                assert answer.status_code < 500, (path, headers, await answer.get_data())


async def end_this_session(browser: Browser) -> Response:
    sessions = (await (await browser.get("/api/v1/sessions")).get_json())["sessions"]
    [current] = [each["id"] for each in sessions if each["current"]]
    return await browser.delete(f"/api/v1/sessions/{current}")


async def end_all_sessions(browser: Browser) -> Response:
    return await browser.post("/api/v1/logout-all")


async def end_the_account(browser: Browser) -> Response:
    profile = await (await browser.get("/api/v1/profile")).get_json()
    return await browser.delete(f"/api/v1/users/{profile['user_id']}")


@pytest.mark.parametrize("end", [end_this_session, end_all_sessions, end_the_account])
async def test_a_browser_that_ends_its_own_session_loses_the_cookie(
    browser: Browser, client: Client, end: Callable[[Browser], Awaitable[Response]]
) -> None:
    await client.register("ada")
    assert (await browser.post("/login", form=RIGHT)).status_code == 303
    ended = await end(browser)
    assert ended.status_code in (200, 204)
    assert not list(browser.jar.cookie_jar or ())
    assert "Max-Age=0" in ended.headers["Set-Cookie"]
    assert await signed_in_as(browser) is None


async def test_a_browser_that_ends_other_sessions_keeps_its_cookie(browser: Browser, client: Client) -> None:
    other = await client.registered("ada")
    assert (await browser.post("/login", form=RIGHT)).status_code == 303
    ended = await browser.post("/api/v1/logout-all?keep_current=true")
    assert (await ended.get_json())["ended"] == 1
    assert "Set-Cookie" not in ended.headers
    assert await signed_in_as(browser) == "ada@example.com"
    assert (await other.get("/profile")).status_code == 401
