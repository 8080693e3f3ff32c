"""Requests for what is another's, by each kind of credential, and the routes that could be asked for it."""

from collections.abc import Collection
from typing import Any

from quart import Quart

from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client

REFUSED = {403, 404}


def routes_with_ids(app: Quart, *, only: str = "", without: Collection[str] = ()) -> set[tuple[str, str]]:
    """The methods and paths of all routes with an id, of one blueprint or without those of some."""
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        for owner in [rule.endpoint.split(".")[0]]
        if rule.arguments and owner not in without and only in ("", owner)
    }


async def assert_refused_to_others(client: Client, method: str, address: str, body: Any = None) -> None:
    """Sent by a new user with each kind of credential, and without one."""
    eve = await client.registered("eve")
    browser = Browser.opened(client.app)
    assert (await browser.post("/login", form={"email": "eve@example.com", "password": PASSWORD})).status_code == 303
    for stranger in (eve, await eve.by_api_key()):
        assert (await stranger.send(method, address, body)).status_code in REFUSED
    assert (await browser.send(method, f"/api/v1{address}", **({"json": body} if body else {}))).status_code in REFUSED
    assert (await client.send(method, address, body)).status_code == 401
