"""Accounts while Redis does not answer: forms open, nothing passes for signed in or out, and nothing is lost."""

import signal

import pytest
from quart import Quart

from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server
RIGHT = {"email": "ada@example.com", "password": PASSWORD}


@pytest.fixture
def app(app_on_own_server: Quart) -> Quart:
    return app_on_own_server


async def test_forms_open_and_say_that_they_cannot_be_sent(app: Quart, own_server: RedisServer) -> None:
    client, browser, visitor = Client(app), Browser.opened(app), Browser.opened(app)
    await client.register()
    assert (await browser.post("/login", form=RIGHT)).status_code == 303
    assert (await visitor.put("/api/v1/notices/draft", json={"text": "Kept"})).status_code == 200
    own_server.signal(signal.SIGSTOP)
    try:
        for path in ("/login", "/logout", "/register", "/password-reset", "/password-reset/confirm"):
            assert (await Browser.opened(app).get(path)).status_code == 200
        for path in ("/login", "/logout", "/password-reset"):
            answer = await browser.post(path, form=RIGHT)
            assert (answer.status_code, answer.mimetype) == (503, "text/html"), path
            assert int(answer.headers["Retry-After"]) >= 1
            assert "Set-Cookie" not in answer.headers
        for who in (browser, visitor):
            for answer in (
                await who.get("/api/v1/notices/draft"),
                await who.put("/api/v1/notices/draft", json={"text": "Lost"}),
            ):
                assert answer.status_code == 503
    finally:
        own_server.signal(signal.SIGCONT)

    async def answers() -> bool:
        return (await browser.get("/api/v1/profile")).status_code == 200

    # Nobody was signed out meanwhile, and the visitor's session is there.
    await eventually(answers)
    assert (await (await visitor.get("/api/v1/notices/draft")).get_json())["text"] == "Kept"
