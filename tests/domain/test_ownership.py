"""Nobody reaches what is another's: every route with an id in its path, asked with other credentials."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from quart import Quart

from app.domain.users import avatars, store
from app.domain.users.tasks import send_password_reset
from app.principal import Principal
from app.resources import Resources
from tests.application import ALL_SLICES
from tests.domain.client import Client
from tests.domain.ownership import REFUSED, assert_refused_to_others, routes_with_ids
from tests.domain.test_avatars import picture

# Ids in these paths name what belongs to nobody, or what everyone may read.
PUBLIC = {
    ("GET", "/api/v1/users/<int:user_id>"),
    ("GET", "/api/v1/users/<int:user_id>/avatar/<version>"),
    ("GET", "/static/<path:filename>"),
}
# A page's form names what its own reader has: one of another's is as one that there is not.
PAGES = {("POST", "/settings/keys/<int:key_id>/revoke"), ("POST", "/settings/devices/<handle>/end")}
# The other slices are examples, and walk their routes in tests of their own.
EXAMPLES = {
    blueprint.name for each in ALL_SLICES for blueprint in (each.blueprint, each.pages) if blueprint is not None
} - {"users"}
ADMIN = ("/api/v1/admin/", "/console/")

Maker = Callable[[Client, Resources], Awaitable[str]]


async def user(ada: Client, _resources: Resources) -> str:
    return f"/users/{ada.user_id}"


async def avatar(ada: Client, resources: Resources) -> str:
    await avatars.put_avatar(resources, Principal(ada.user_id, frozenset(), "session"), ada.user_id, picture())
    return f"/users/{ada.user_id}/avatar"


async def session(ada: Client, _resources: Resources) -> str:
    [shown] = (await (await ada.get("/sessions")).get_json())["sessions"]
    return f"/sessions/{shown['id']}"


async def api_key(ada: Client, _resources: Resources) -> str:
    created = await (await ada.post("/api-keys", {"name": "mine"})).get_json()
    return f"/api-keys/{created['id']}"


async def task(ada: Client, resources: Resources) -> str:
    [receipt] = await resources.queue.submit([send_password_reset.call("x@example.com", owner=ada.user_id)])
    return f"/tasks/{receipt.id}"


async def task_events(ada: Client, resources: Resources) -> str:
    return f"{await task(ada, resources)}/events"


OWNED: dict[tuple[str, str], tuple[Maker, Any]] = {
    ("PUT", "/api/v1/users/<int:user_id>"): (user, {"name": "Taken"}),
    ("DELETE", "/api/v1/users/<int:user_id>"): (user, None),
    ("PUT", "/api/v1/users/<int:user_id>/avatar"): (avatar, None),
    ("DELETE", "/api/v1/users/<int:user_id>/avatar"): (avatar, None),
    ("DELETE", "/api/v1/sessions/<handle>"): (session, None),
    ("DELETE", "/api/v1/api-keys/<int:key_id>"): (api_key, None),
    ("GET", "/api/v1/tasks/<task_id>"): (task, None),
    ("DELETE", "/api/v1/tasks/<task_id>"): (task, None),
    ("GET", "/api/v1/tasks/<task_id>/events"): (task_events, None),
}


async def test_each_route_with_an_id_is_walked_or_public(app: Quart) -> None:
    known = PUBLIC | OWNED.keys() | PAGES
    unknown = {
        (method, path) for method, path in routes_with_ids(app, without=EXAMPLES) - known if not path.startswith(ADMIN)
    }
    assert unknown == set()


@pytest.mark.parametrize(("method", "path"), OWNED)
async def test_anothers_credential_is_refused_and_changes_nothing(
    client: Client, resources: Resources, method: str, path: str
) -> None:
    make, body = OWNED[method, path]
    ada = await client.registered("ada")
    address = await make(ada, resources)
    before = await everything(ada, resources, address)
    await assert_refused_to_others(client, method, address, body)
    assert await everything(ada, resources, address) == before


async def everything(owner: Client, resources: Resources, address: str) -> list[Any]:
    """What the owner has, without what each request changes; of a task at `address` its state too."""
    seen: list[Any] = [await (await owner.get(path)).get_json() for path in ("/profile", "/sessions", "/api-keys")]
    for shown in seen[1]["sessions"]:
        shown.pop("last_activity")
    seen.append(await (await owner.get(f"/users/{owner.user_id}")).get_json())
    async with resources.database.read(primary=True) as reading:
        found = await store.get_avatar(reading, owner.user_id)
    if address.startswith("/tasks/"):
        shown = await owner.get(address.removesuffix("/events"))
        assert shown.status_code == 200
        seen.append(await shown.get_json())
    return [*seen, None if found is None else (found.version, found.upload)]


async def test_lists_hold_ones_own_alone(client: Client, resources: Resources) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    key, device = await api_key(ada, resources), await session(ada, resources)
    assert (await (await eve.get("/api-keys")).get_json())["api_keys"] == []
    [only] = (await (await eve.get("/sessions")).get_json())["sessions"]
    assert not device.endswith(only["id"])
    assert (await (await eve.get("/profile")).get_json())["user_id"] == eve.user_id
    # The owner still has both.
    assert (await ada.delete(key)).status_code == 204
    assert (await ada.delete(device)).status_code == 204


async def test_admin_routes_take_no_other_role(app: Quart, client: Client) -> None:
    eve = await client.registered("eve")
    paths = {(method, path) for method, path in routes_with_ids(app, without=EXAMPLES) if path.startswith(ADMIN[0])}
    assert paths
    for method, path in paths:
        filled = path.removeprefix("/api/v1").replace("<", "").replace(">", "").replace("int:", "")
        answer = await eve.send(method, filled, {} if method in ("POST", "PUT") else None)
        assert answer.status_code in REFUSED | {415}, (method, path)
