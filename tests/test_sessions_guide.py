"""The examples of docs/sessions.md, as parts of a running application."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from app.domain.slice import Slice
from app.kit.keys import Keys
from tests.guides import names_of_examples, serving_examples

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def guide() -> dict[str, Any]:
    return names_of_examples("sessions.md")


@pytest.fixture
async def app(guide: dict[str, Any], keys: Keys, sqlite_template: Path) -> AsyncIterator[Quart]:
    examples = (Slice(blueprint=guide["blueprint"]), Slice(blueprint=guide["door"]))
    async with serving_examples(examples, database=sqlite_template, namespace=keys.namespace, CONSUMER="false") as app:
        yield app


async def test_a_visitors_basket_follows_the_login(app: Quart, guide: dict[str, Any]) -> None:
    registration = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery"}
    user_id = (await (await app.test_client().post("/api/v1/users", json=registration)).get_json())["id"]
    guide["codes"]["sesame"] = user_id
    browser = app.test_client()
    for product_id, products in ((7, ["7"]), (8, ["7", "8"])):
        added = await browser.post(f"/guide/basket/{product_id}", headers=SAME_ORIGIN)
        assert (added.status_code, await added.get_json()) == (200, {"products": products})
    assert (await browser.get("/door")).status_code == 401
    assert (await browser.post("/door", form={"code": "wrong"}, headers=SAME_ORIGIN)).status_code == 401
    elsewhere = await browser.post("/door", form={"code": "sesame"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status_code == 403
    entered = await browser.post("/door", form={"code": "sesame"}, headers=SAME_ORIGIN)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/door")
    # Without `remember` the cookie ends with the browser.
    assert "Max-Age" not in entered.headers["Set-Cookie"]
    assert await (await browser.get("/door")).get_json() == {"user_id": user_id}
    added = await browser.post("/guide/basket/9", headers=SAME_ORIGIN)
    assert await added.get_json() == {"products": ["7", "8", "9"]}
    # A code works once.
    assert (await app.test_client().post("/door", form={"code": "sesame"}, headers=SAME_ORIGIN)).status_code == 401
    assert (await browser.post("/door/leave", headers=SAME_ORIGIN)).status_code == 303
    assert (await browser.get("/door")).status_code == 401
