"""A repeat with its Idempotency-Key makes nothing a second time, and lists link to their next part."""

import re

from app.db.base import now
from app.domain.messages.models import Message
from app.domain.products.models import Category, Product
from app.domain.users.models import User
from app.resources import Resources
from tests.domain.client import Client


async def test_a_repeat_makes_nothing_a_second_time(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    async with resources.database.write() as session:
        user = await session.get(User, ada.user_id)
        assert user
        user.roles = ["admin"]
    category = {"name": "Strings"}
    requests = {
        "/messages": {"recipient_id": ada.user_id, "content": "Once."},
        "/categories": category,
        "/products": {"name": "Viola", "price": "900.00", "category_id": 1},
        "/reports": {"type": "own_activity", "date_range": {"start": "2026-01-01", "end": "2026-01-02"}},
        "/events": {"channel": "broadcast", "type": "told", "data": 1},
    }
    for path, body in requests.items():
        first, again = [await ada.post(path, body, Idempotency_Key="k") for _ in range(2)]
        assert first.status_code in (201, 202), (path, await first.get_data())
        assert (again.status_code, await again.get_data()) == (first.status_code, await first.get_data()), path
        assert again.headers["Idempotency-Replayed"] == "true", path


async def followed(client: Client, path: str) -> list[list[int]]:
    """The ids in the parts of a list, by the links to the next one."""
    parts = []
    while path:
        response = await client.get(path)
        [rows] = [value for value in (await response.get_json()).values() if isinstance(value, list)]
        parts.append([row["id"] for row in rows])
        link = re.search(r'<[^>]*/api/v1(/[^>]*)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""
    return parts


async def test_lists_link_to_their_next_part(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    async with resources.database.write() as session:
        session.add(category := Category(name="Strings"))
        await session.flush()
        for number in range(5):
            product = Product(
                name=f"Viola {number}", description="", price_cents=1, category_id=category.id, updated_at=now()
            )
            message = Message(
                sender_id=ada.user_id, recipient_id=ada.user_id, content="x", created_at=now(), read_at=None
            )
            session.add(product)
            session.add(message)
    for path in (f"/products?category_id={category.id}&per_page=2", "/messages?box=sent&limit=2"):
        parts = await followed(ada, path)
        assert [len(part) for part in parts] == [2, 2, 1], path
        assert len({number for part in parts for number in part}) == 5, path
