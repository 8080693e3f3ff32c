"""The example of a page in docs/accounts.md, served and used."""

import re
import shutil
from pathlib import Path
from typing import Any

from app.domain.slice import Slice
from app.domain.users.service import register_user
from app.factory import create_app
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION
from tests.application import ALL_SLICES
from tests.domain.browser import Browser
from tests.domain.client import PASSWORD

DOCUMENT = Path(__file__).parents[2] / "docs" / "accounts.md"


async def test_the_page_of_ones_own(sqlite_template: Path, tmp_path: Path) -> None:
    [example] = [
        text
        for text in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        if "sign_in_browser" in text
    ]
    module: dict[str, Any] = {"__name__": "members"}
    exec(compile(example, DOCUMENT.name, "exec"), module)  # noqa: S102
    shutil.copy(sqlite_template, tmp_path / "app.db")
    settings = load_settings({"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}", "CONSUMER": "0"})
    app = create_app(settings, slices=(*ALL_SLICES, Slice(blueprint=module["blueprint"])))
    async with app.test_app():
        resources: Resources = app.extensions[EXTENSION]
        user = await register_user(resources, email="ada@example.com", name="Ada", password=PASSWORD)
        browser = Browser.opened(app)
        form = {"email": "ada@example.com", "password": PASSWORD}
        assert (await browser.get("/members")).status_code == 401
        assert (await browser.post("/members/enter", form={**form, "password": "wrong"})).status_code == 401
        assert (await browser.post("/members/enter", form=form)).headers["Location"] == "/members"
        assert await (await browser.get("/members")).get_data(as_text=True) == f"You are user {user.id}."
        assert (await browser.get("/members/editors")).status_code == 403
        assert (await browser.post("/members/leave")).status_code == 303
        assert (await browser.get("/members")).status_code == 401
