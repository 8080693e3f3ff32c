"""What the slices still do while Redis does not answer, and what becomes of it afterwards."""

import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from quart import Quart

from app.factory import create_app
from app.kit.keys import Keys
from app.resources import Resources
from app.settings import Settings, load_settings
from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client, broadcast
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server
DRAFT = {"title": "Written in the dark", "content": "Redis was down when this was written."}


@pytest.fixture
def own_redis(tmp_path: Path) -> RedisServer:
    (tmp_path / "redis").mkdir()
    return RedisServer(tmp_path / "redis")


@pytest.fixture
def settings(keys: Keys, tmp_path: Path, own_redis: RedisServer, sqlite_template: Path) -> Settings:
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    environ = {
        "NAMESPACE": keys.namespace,
        "CONSUMER": "0",
        "REDIS_URL": own_redis.url,
        # A loaded machine answers late before the silence, too.
        "REDIS_BUDGET_MS": "250",
        "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
    }
    return load_settings(environ)


@pytest.fixture
async def app(settings: Settings, own_redis: RedisServer) -> AsyncIterator[Quart]:
    own_redis.start()
    created = create_app(settings)
    async with created.test_app():
        yield created
    own_redis.stop()


@asynccontextmanager
async def silence(server: RedisServer) -> AsyncIterator[None]:
    """Connections stay open, and no answer comes."""
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


async def test_reading_goes_on(client: Client, own_redis: RedisServer) -> None:
    ada = await client.registered()
    article = await (await ada.post("/articles", DRAFT)).get_json()
    paths = ("/articles", "/articles/popular", f"/articles/{article['id']}", f"/users/{ada.user_id}")
    async with silence(own_redis):
        assert [(await client.get(path)).status_code for path in paths] == [200] * len(paths)


async def test_sign_in_does_not(client: Client, own_redis: RedisServer) -> None:
    ada = await client.registered()
    async with silence(own_redis):
        refused = [await client.log_in(), await ada.get("/profile"), await ada.post("/articles", DRAFT)]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert all("Retry-After" in answer.headers for answer in refused)

    async def is_back() -> bool:
        return (await ada.get("/profile")).status_code == 200

    assert await eventually(is_back)


async def test_what_is_written_meanwhile_is_told_afterwards(
    client: Client, own_redis: RedisServer, resources: Resources
) -> None:
    by_key = await (await client.registered()).by_api_key()
    assert (await (await client.get("/articles")).get_json())["total"] == 0
    async with silence(own_redis):
        assert (await by_key.post("/articles", DRAFT)).status_code == 201
        assert await wait_for_total(client, 1)
    await eventually(lambda: broadcast(resources, "article_created"))
    # What Redis had kept of the list was made invalid when it was back.
    assert await eventually(lambda: wait_for_total(client, 1))


async def wait_for_total(client: Client, total: int) -> bool:
    found: int = (await (await client.get("/articles")).get_json())["total"]
    return found == total


async def test_a_form_that_cannot_be_sent_is_kept_to_be_sent_again(
    client: Client, app: Quart, own_redis: RedisServer
) -> None:
    await client.registered()
    browser = Browser.opened(app)
    signed_in = await browser.post("/login", form={"email": "ada@example.com", "password": PASSWORD})
    assert signed_in.status_code == 303
    accept = {"Accept": "text/html"}
    secret = {"current": PASSWORD, "new": "another " + PASSWORD}
    async with silence(own_redis):
        # This form needs no backend to be shown; the page of messages does.
        again = await browser.post("/write", form=DRAFT, headers=accept)
        assert again.status_code == 503
        assert DRAFT["content"] in await again.get_data(as_text=True)
        answer = await browser.post("/inbox", form={"to": "b@example.com", "content": "<b>"}, headers=accept)
        page = await answer.get_data(as_text=True)
        assert answer.status_code == 503
        assert "Send it again" in page
        assert '<input type="hidden" name="to" value="b@example.com">' in page
        assert '<input type="hidden" name="content" value="&lt;b&gt;">' in page
        for path, typed in {"/settings/password": secret, "/articles/1/delete": {"version": "1"}}.items():
            page = await (await browser.post(path, form=typed, headers=accept)).get_data(as_text=True)
            assert "Send it again" not in page
            assert PASSWORD not in page
