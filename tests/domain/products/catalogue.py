"""Editors and products for the tests of what builds on the catalogue."""

from typing import Any

from app.domain.users.service import set_roles
from app.resources import Resources
from tests.domain.client import Client

FIELDS = {"name": "Reporter's Notebook", "description": "Spiral bound.", "price": "4.20"}


async def editor(client: Client, resources: Resources, name: str = "edgar") -> Client:
    """A client with a session of a new account that has the role."""
    user_id = await client.register(name)
    await set_roles(resources, user_id, ["editor"])
    return await client.signed_in(name)


async def category(by: Client, name: str = "Stationery") -> int:
    created = await by.post("/categories", {"name": name})
    assert created.status_code == 201
    number: int = (await created.get_json())["id"]
    return number


async def product(by: Client, category_id: int, **changes: object) -> dict[str, Any]:
    created = await by.post("/products", FIELDS | {"category_id": category_id} | changes)
    assert created.status_code == 201, await created.get_data(as_text=True)
    shown: dict[str, Any] = await created.get_json()
    return shown
