"""Products over HTTP: lists, reading, writing, and what the cache and the events show of it."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.base import now
from app.db.database import Database
from app.domain.products import store
from app.domain.products.categories import MOST_CATEGORIES
from app.domain.products.models import Category, Product
from app.domain.products.prices import to_cents, to_price
from app.domain.seed import seed
from app.domain.users.service import set_roles
from app.resources import Resources
from app.settings import Settings
from tests.domain.client import Client, broadcast
from tests.domain.products.catalogue import FIELDS, category, editor, product
from tests.domain.statements import full_scans, plans, recorded, sorts


@pytest.fixture
async def by(client: Client, resources: Resources) -> Client:
    return await editor(client, resources)


async def listed(client: Client, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/products{query}")
    assert answer.status_code == 200
    page: dict[str, Any] = await answer.get_json()
    return page


def names(page: dict[str, Any]) -> list[str]:
    return [each["name"] for each in page["products"]]


async def fill(resources: Resources, products: int, *, categories: int = 2) -> None:
    async with resources.database.write() as session:
        groups = [Category(name=f"Group {number}") for number in range(categories)]
        for group in groups:
            await store.create_category(session, group)
        session.add(
            *(
                Product(
                    category_id=groups[number % categories].id,
                    name=f"Product {number:05}",
                    description="",
                    price_cents=number,
                    updated_at=now(),
                )
                for number in range(products)
            )
        )


async def test_a_product_is_made_read_changed_and_deleted(client: Client, by: Client) -> None:
    created = await by.post("/products", FIELDS | {"category_id": await category(by), "price": "4.2"})
    assert created.status_code == 201
    made = await created.get_json()
    path = f"/products/{made['id']}"
    assert created.headers["Location"].endswith(f"/api/v1{path}")
    assert made.keys() == {"id", "name", "description", "price", "category_id", "updated_at"}
    assert made["price"] == "4.20"
    assert await (await client.get(path)).get_json() == made
    changed = await by.put(path, FIELDS | {"category_id": made["category_id"], "price": "5"})
    assert changed.status_code == 200
    shown = await (await client.get(path)).get_json()
    assert shown == await changed.get_json()
    assert (shown["price"], shown["updated_at"] > made["updated_at"]) == ("5.00", True)
    assert (await by.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await by.delete(path)).status_code == 404
    assert (await by.put(path, FIELDS | {"category_id": made["category_id"]})).status_code == 404


@pytest.mark.parametrize("role", ["visitor", "user", "editor", "admin"])
async def test_editors_and_admins_write(client: Client, resources: Resources, by: Client, role: str) -> None:
    made = await product(by, await category(by))
    asker = client
    if role != "visitor":
        await set_roles(resources, await client.register("ada"), [] if role == "user" else [role])
        asker = await client.signed_in("ada")
    refused = {"visitor": 401, "user": 403}.get(role)
    fields = FIELDS | {"category_id": made["category_id"]}
    empty = await category(by, "Empty")
    for send, allowed in (
        (asker.post("/products", fields), 201),
        (asker.put(f"/products/{made['id']}", fields), 200),
        (asker.delete(f"/products/{made['id']}"), 204),
        (asker.post("/categories", {"name": "Games"}), 201),
        (asker.put(f"/categories/{empty}", {"name": "Other"}), 200),
        (asker.delete(f"/categories/{empty}"), 204),
    ):
        assert (await send).status_code == (refused or allowed)
    for path in ("/products", "/categories"):
        assert (await asker.get(path)).status_code == 200


async def test_lists_are_by_name_and_show_each_change_at_once(client: Client, by: Client) -> None:
    pens, books = await category(by, "Pens"), await category(by, "Books")
    both = f"?category_id={pens}", f"?category_id={books}"
    assert await listed(client) == {"products": [], "total": 0, "pages": 0, "current_page": 1}
    made = [await product(by, group, name=name) for name, group in (("C", pens), ("A", books), ("B", pens))]
    assert [names(await listed(client, query)) for query in ("", *both)] == [["A", "B", "C"], ["B", "C"], ["A"]]
    moved = FIELDS | {"name": "C", "category_id": books}
    assert (await by.put(f"/products/{made[0]['id']}", moved)).status_code == 200
    assert [names(await listed(client, query)) for query in both] == [["B"], ["A", "C"]]
    assert (await by.delete(f"/products/{made[1]['id']}")).status_code == 204
    assert [names(await listed(client, query)) for query in ("", *both)] == [["B", "C"], ["B"], ["C"]]
    page = await listed(client, "?page=2&per_page=1")
    assert (names(page), page["total"], page["pages"], page["current_page"]) == (["C"], 2, 2, 2)
    assert names(await listed(client, "?page=9")) == names(await listed(client, "?category_id=999")) == []


async def test_a_change_leaves_other_categories_cached(client: Client, by: Client) -> None:
    pens, books = await category(by, "Pens"), await category(by, "Books")
    pen, book = await product(by, pens), await product(by, books)
    paths = [f"/products?category_id={pens}", f"/products?category_id={books}", "/products"]
    paths += [f"/products/{each['id']}" for each in (pen, book)]
    for path in paths:
        assert "Age" not in (await client.get(path)).headers
        assert "Age" in (await client.get(path)).headers
    await by.put(f"/products/{pen['id']}", FIELDS | {"category_id": pens, "price": "1"})
    assert ["Age" in (await client.get(path)).headers for path in paths] == [False, True, False, False, True]


async def test_each_change_is_told_once(resources: Resources, by: Client) -> None:
    pens = await category(by)
    made = await product(by, pens)
    path, fields = f"/products/{made['id']}", FIELDS | {"category_id": pens}
    for change in ({"price": "5.00", "name": "Pad"}, {"price": "5", "name": "Pad"}):
        assert (await by.put(path, fields | change)).status_code == 200
    assert (await by.delete(path)).status_code == 204
    await resources.outbox.drain()
    told = await broadcast(resources, "product_updated")
    assert told == [
        {"product_id": made["id"], "changes": fields},
        # The second PUT changed nothing.
        {"product_id": made["id"], "changes": {"name": "Pad", "price": "5.00"}},
        {"product_id": made["id"], "changes": {"deleted": True}},
    ]


BAD: list[tuple[str, object]] = [
    *(("name", value) for value in ("", " ", "x" * 201, "\u200b", "a\nb", 1, None)),
    *(("description", value) for value in ("x" * 2001, "a\0b", 1, None)),
    *(("category_id", value) for value in (0, -1, 2**63, "1", 1.5, True, None, 999)),
    *(("price", value) for value in ("", "-1", "+1", "1.", ".5", "1.234", "1e3", "NaN", "01", "10000000", " 1", "1\n")),
    *(("price", value) for value in ("١", "1,50", 1, 1.5, None)),
    ("discount", 1),
]


async def test_what_does_not_validate_is_refused(by: Client) -> None:
    pens = await category(by)
    made = await product(by, pens)
    for field, value in BAD:
        body = FIELDS | {"category_id": pens, field: value}
        for refused in (await by.post("/products", body), await by.put(f"/products/{made['id']}", body)):
            assert refused.status_code == 422, (field, value)
            assert [error["loc"] for error in (await refused.get_json())["errors"]] == [[field]]
    assert await listed(by) == {"products": [made], "total": 1, "pages": 1, "current_page": 1}


async def test_a_query_that_does_not_validate_is_refused(client: Client) -> None:
    for name in ("page", "per_page", "category_id"):
        for value in ("0", "-1", "x", "", "1.5", "01", str(2**63)):
            refused = await client.get(f"/products?{name}={value}")
            assert refused.status_code == 422
            assert (await refused.get_json())["errors"][0]["loc"][0] == name


@given(st.integers(0, 999_999_999))
def test_a_price_keeps_each_hundredth(cents: int) -> None:
    assert to_cents(to_price(cents)) == cents


async def test_a_category_lasts_while_it_has_products(client: Client, by: Client) -> None:
    pens = await category(by, "Pens")
    books = await category(by, "Books")
    made = await product(by, pens)

    async def shown() -> list[str]:
        return [each["name"] for each in (await (await client.get("/categories")).get_json())["categories"]]

    assert await shown() == ["Books", "Pens"]
    assert (await by.post("/categories", {"name": " Pens "})).status_code == 409
    assert (await by.put(f"/categories/{books}", {"name": "Pens"})).status_code == 409
    assert (await by.put(f"/categories/{books}", {"name": "Books"})).status_code == 200
    assert (await by.put(f"/categories/{books}", {"name": "Novels"})).status_code == 200
    assert await shown() == ["Novels", "Pens"]
    assert (await by.delete(f"/categories/{pens}")).status_code == 409
    assert (await by.delete(f"/products/{made['id']}")).status_code == 204
    assert (await by.delete(f"/categories/{pens}")).status_code == 204
    assert await shown() == ["Novels"]
    for send in (by.delete(f"/categories/{pens}"), by.put(f"/categories/{pens}", {"name": "X"})):
        assert (await send).status_code == 404
    for name in ("", " ", "x" * 101, "a\nb", 1, None):
        assert (await by.post("/categories", {"name": name})).status_code == 422


async def test_editors_at_the_same_time_do_not_collide(client: Client, by: Client) -> None:
    made = await asyncio.gather(*(by.post("/categories", {"name": "Pens"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in made) == [201] + [409] * 4
    pens = (await (await client.get("/categories")).get_json())["categories"][0]["id"]
    path = f"/products/{(await product(by, pens))['id']}"
    fields = [FIELDS | {"category_id": pens, "price": f"{number}.00"} for number in range(5)]
    assert {answer.status_code for answer in await asyncio.gather(*(by.put(path, each) for each in fields))} == {200}
    shown = await (await client.get(path)).get_json()
    [in_list] = (await listed(client))["products"]
    assert shown == in_list
    deleted = await asyncio.gather(*(by.delete(path) for _ in range(3)))
    assert sorted(answer.status_code for answer in deleted) == [204, 404, 404]


async def test_categories_are_bounded(resources: Resources, by: Client) -> None:
    await fill(resources, 0, categories=MOST_CATEGORIES)
    assert (await by.post("/categories", {"name": "One more"})).status_code == 409


async def test_reads_share_a_limit(client: Client) -> None:
    statuses = [(await client.get("/products")).status_code for _ in range(50)]
    statuses += [(await client.get("/products/1")).status_code for _ in range(50)]
    assert statuses == [200] * 50 + [404] * 50
    refused = await client.get("/categories")
    assert (refused.status_code, refused.headers["X-RateLimit-Limit"]) == (429, "100")


async def test_statements_do_not_grow_with_rows(client: Client, resources: Resources, by: Client) -> None:
    await by.get("/profile")
    await fill(resources, 300)
    for query in ("?per_page=1", "?per_page=100", "?category_id=1&per_page=100"):
        with recorded() as statements:
            assert len((await listed(client, query))["products"]) > 0
        assert len(statements) == 2, statements
    for send, most in (
        (client.get("/products/1"), 1),
        (client.get("/categories"), 1),
        (by.post("/products", FIELDS | {"category_id": 1}), 4),
        (by.put("/products/1", FIELDS | {"category_id": 2}), 5),
        (by.delete("/products/1"), 4),
        (by.post("/categories", {"name": "Pens"}), 4),
        (by.delete("/categories/3"), 4),
    ):
        with recorded() as statements:
            assert (await send).status_code < 300
        assert 0 < len(statements) <= most, statements


async def test_the_cache_is_filled_from_the_primary(
    client: Client, by: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await product(by, await category(by))
    read, asked = Database.read, []

    def spy(self: Database, *, primary: bool = False) -> Any:
        asked.append(primary)
        return read(self, primary=primary)

    monkeypatch.setattr(Database, "read", spy)
    for path in ("/products", f"/products/{made['id']}", "/categories"):
        for _ in range(2):
            assert (await client.get(path)).status_code == 200
    assert asked == [True] * 3


async def test_lists_read_an_index(client: Client, resources: Resources, settings: Settings) -> None:
    await fill(resources, 3000, categories=3)
    with recorded() as statements:
        for query in ("?page=3", "?category_id=2&page=2"):
            await listed(client, query)
    found = await plans(settings.database_url, statements)
    # The number of all products is counted from end to end, once in the ten minutes for which the list is cached.
    of_lists = {text: plan for text, plan in found.items() if "count(" not in text or "WHERE" in text}
    assert len(of_lists) == 3
    for text, plan in of_lists.items():
        assert not full_scans(plan), (text, plan)
        assert not sorts(plan), (text, plan)


async def test_the_demo_catalogue_is_added_once(client: Client, resources: Resources) -> None:
    await seed(resources)
    page = await listed(client, "?per_page=100")
    assert page["total"] == len(page["products"]) == 40
    assert {(await listed(client, f"?category_id={number}"))["total"] for number in range(1, 9)} == {5}
    assert await seed(resources) == []
    assert (await listed(client, "?per_page=100")) == page
