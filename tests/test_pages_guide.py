"""The page of docs/pages.md, as it stands there, in a browser."""

import re
import shutil
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from quart import Blueprint

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.settings import load_settings
from tests.browser.axe import violations
from tests.browsing import IN_BROWSER, Site, site_settings
from tests.served import Served

pytestmark = IN_BROWSER

GUIDE = Path(__file__).parent.parent / "docs" / "pages.md"
FILE = re.compile(r"```\w+\n(?:# |\{# |// )app/domain/(board/\S+).*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The files of the guide, imported from a folder of their own."""
    files = FILE.findall(GUIDE.read_text())
    assert len(files) == 3
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "board", raising=False)
    return import_module("board.pages")


@pytest_asyncio.fixture(loop_scope="session")
async def own_site(board: ModuleType, chromium: Browser, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Site]:
    shutil.copy(sqlite_template, tmp_path / "site.db")
    settings = site_settings(tmp_path / "site.db")
    served = Served(settings)
    pages = Slice(blueprint=Blueprint("board_api", __name__), pages=board.blueprint, links=board.LINKS)
    served.app = create_app(load_settings(settings), slices=[*SLICES, pages])
    await served.start()
    yield Site(served, chromium)
    await served.stop()


async def test_the_page_of_the_guide(own_site: Site) -> None:
    ada, bob = await own_site.account("Ada"), await own_site.account("Bob")
    async with (
        own_site.visit("/board", account=ada, expected=["422"]) as hers,
        own_site.visit("/board", account=bob, java_script_enabled=False) as his,
    ):
        await expect(hers.locator("[data-connection]")).to_have_attribute("data-state", "live")
        await expect(hers.locator(".empty")).to_be_visible()
        await his.get_by_label("Note").fill("Hello from <b>Bob</b>")
        await his.get_by_role("button", name="Pin").click()
        await expect(his.locator("[data-notices]")).to_contain_text("Your note is pinned.")
        await expect(hers.locator(".entries")).to_have_text("Hello from <b>Bob</b>")
        await hers.get_by_label("Note").fill("\u200b")
        await hers.get_by_role("button", name="Pin").click()
        await expect(hers.locator("#text-wrong")).to_contain_text("visible character")
        assert await violations(hers) == []
    async with own_site.visit("/board") as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
