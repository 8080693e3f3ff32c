"""The example of docs/from_flask.md, as a part of a running application."""

from pathlib import Path
from typing import Any

import pytest

from app.kit.keys import Keys
from app.resources import Resources
from app.web.context import EXTENSION
from tests.guides import names_of_examples, serving_examples

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
ADA = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery"}


@pytest.fixture
def guide() -> dict[str, Any]:
    return names_of_examples("from_flask.md")


async def test_the_example_is_cached_and_greets(guide: dict[str, Any], keys: Keys, sqlite_template: Path) -> None:
    slices = (guide["SLICE"],)
    async with serving_examples(slices, database=sqlite_template, namespace=keys.namespace, CONSUMER="false") as app:
        resources: Resources = app.extensions[EXTENSION]
        browser = app.test_client()
        assert await (await browser.get("/members")).get_json() == {"count": 0}
        await browser.post("/api/v1/users", json=ADA)
        # For a minute it is the response of before.
        assert await (await browser.get("/members")).get_json() == {"count": 0}
        assert (await browser.post("/members/greeting", headers=SAME_ORIGIN)).status_code == 401
        login = {name: ADA[name] for name in ("email", "password")}
        assert (await browser.post("/login", form=login, headers=SAME_ORIGIN)).status_code == 303
        for greetings in (1, 2):
            greeted = await browser.post("/members/greeting", headers=SAME_ORIGIN)
            assert (greeted.status_code, await greeted.get_json()) == (202, {"greetings": greetings})
        await resources.outbox.drain()
        assert await (await browser.get("/members")).get_json() == {"count": 1}
        assert (await resources.queue.depth())["normal"] == 2
