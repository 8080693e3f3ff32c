"""Accounts over HTTP, as docs and clients know them."""

import asyncio
from datetime import datetime

import pytest

from app.domain.users.service import set_roles
from app.resources import Resources
from tests.domain.client import PASSWORD, Client

ADA = {"email": "Ada@Example.com", "name": " Ada ", "password": PASSWORD}


async def test_registering(client: Client) -> None:
    created = await client.post("/users", ADA)
    assert created.status_code == 201
    body = await created.get_json()
    assert body == {"id": body["id"], "email": "ada@example.com", "name": "Ada"}
    assert created.headers["Location"].endswith(f"/api/v1/users/{body['id']}")
    shown = await (await client.get(f"/users/{body['id']}")).get_json()
    assert shown.keys() == {"id", "name", "avatar_url", "created_at"}
    assert datetime.fromisoformat(shown["created_at"]).utcoffset() is not None


async def test_an_address_has_one_account_in_whatever_case(client: Client) -> None:
    await client.register("ada")
    again = await client.post("/users", ADA)
    assert again.status_code == 409
    assert again.content_type == "application/problem+json"


async def test_of_parallel_registrations_one_wins(client: Client) -> None:
    answers = await asyncio.gather(*(client.post("/users", ADA) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_what_does_not_validate_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    changes: list[dict[str, object]] = [
        {"password": "1234567"},
        {"password": "x" * 1025},
        {"password": None},
        {"email": "no address"},
        {"email": "Ada <ada@example.com>"},
        {"email": "ada@example.com\0"},
        {"name": "  "},
        {"name": "x" * 101},
        {"name": "A\0da"},
        {"name": ["Ada"]},
        {"roles": ["admin"]},
    ]
    for change in changes:
        with subtests.test(f"{ascii(change):.40}"):
            refused = await client.post("/users", ADA | change)
            assert refused.status_code == 422
            problem = await refused.get_json()
            assert [error["loc"] for error in problem["errors"]] == [list(change)]
            assert PASSWORD not in str(problem)


async def test_the_address_is_shown_to_its_owner_and_to_admins(client: Client, resources: Resources) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    path = f"/users/{ada.user_id}"
    assert "email" not in await (await client.get(path)).get_json()
    assert "email" not in await (await eve.get(path)).get_json()
    assert (await (await ada.get(path)).get_json())["email"] == "ada@example.com"
    await set_roles(resources, eve.user_id, ["admin"])
    admin = await client.signed_in("eve")
    assert (await (await admin.get(path)).get_json())["email"] == "ada@example.com"


async def test_nobody(client: Client, subtests: pytest.Subtests) -> None:
    for number in ["0", "99", "x", "-1", str(2**63), str(10**30)]:
        with subtests.test(f"{ascii(number):.40}"):
            assert (await client.get(f"/users/{number}")).status_code == 404


async def test_a_change_is_seen_at_once(client: Client) -> None:
    ada = await client.registered()
    path = f"/users/{ada.user_id}"
    assert (await (await client.get(path)).get_json())["name"] == "Ada"
    changed = await ada.put(path, {"name": "Ada L.", "email": "lovelace@example.com"})
    assert changed.status_code == 200
    assert (await changed.get_json())["email"] == "lovelace@example.com"
    assert (await (await client.get(path)).get_json())["name"] == "Ada L."
    assert (await client.log_in("ada")).status_code == 401
    assert (await client.log_in("lovelace")).status_code == 200


async def test_only_the_owner_and_admins_change(client: Client, resources: Resources) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    path = f"/users/{ada.user_id}"
    assert (await client.put(path, {"name": "X"})).status_code == 401
    assert (await eve.put(path, {"name": "X"})).status_code == 403
    assert (await ada.put(path, {"name": "Ada", "email": "EVE@example.com"})).status_code == 409
    by_key = await ada.by_api_key()
    assert (await by_key.put(path, {"name": "By key"})).status_code == 200
    assert (await by_key.put(path, {"name": "Ada", "email": "new@example.com"})).status_code == 403
    await set_roles(resources, eve.user_id, ["admin"])
    admin = await client.signed_in("eve")
    assert (await admin.put(path, {"name": "By admin"})).status_code == 200
    assert (await admin.put("/users/99", {"name": "Nobody"})).status_code == 404


async def test_deleting_an_account_ends_all_that_it_had(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    other, by_key = await client.signed_in("ada"), await ada.by_api_key()
    assert (await by_key.get("/profile")).status_code == 200
    path = f"/users/{ada.user_id}"
    assert (await eve.delete(path)).status_code == 403
    assert (await by_key.delete(path)).status_code == 403
    deleted = await ada.delete(path)
    assert (deleted.status_code, await deleted.get_json()) == (200, {"deleted": True})
    for credential in (ada, other, by_key):
        assert (await credential.get("/profile")).status_code == 401
    assert (await client.get(path)).status_code == 404
    assert (await client.log_in("ada")).status_code == 401
    assert await client.register("ada") > ada.user_id


async def test_addresses_are_tried_as_seldom_by_a_change_as_by_registration(client: Client) -> None:
    """A 409 tells whether an address has an account."""
    ada, _ = await client.registered("ada"), await client.registered("eve")
    change = {"name": "Ada", "email": "eve@example.com"}
    statuses = [(await ada.put(f"/users/{ada.user_id}", change)).status_code for _ in range(31)]
    assert statuses == [409] * 30 + [429]
