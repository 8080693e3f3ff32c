"""The cart: a visitor's, an account's on several devices, and how the one becomes part of the other."""

import asyncio
from typing import Any

import pytest
from quart import Quart, Response
from sqlalchemy import func, select

from app.db.base import now
from app.db.database import LARGEST_ID
from app.domain.cart import store
from app.domain.cart.models import Cart
from app.domain.cart.schemas import MOST_ITEMS
from app.domain.products.models import Category, Product
from app.domain.products.prices import to_cents
from app.errors import Unavailable
from app.resources import Resources
from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client
from tests.domain.statements import recorded

PRODUCTS = [*range(1, 152), LARGEST_ID]


@pytest.fixture(autouse=True)
async def products(resources: Resources) -> None:
    """PRODUCTS, each for as many hundredths as its id; the last one costs the most that a product can."""
    async with resources.database.write() as session:
        session.add(category := Category(name="Stationery"))
        await session.flush()
        for number in PRODUCTS:
            fields = {"id": number, "category_id": category.id, "name": f"Product {number}", "description": ""}
            session.add(Product(**fields, price_cents=min(number, 999_999_999), updated_at=now()))


async def delete_product(resources: Resources, product_id: int) -> None:
    async with resources.database.write() as session:
        found = await session.get(Product, product_id)
        assert found is not None
        await session.delete(found)


@pytest.fixture
def browser(app: Quart) -> Browser:
    return Browser.opened(app)


async def put(browser: Browser, product_id: int, quantity: object) -> Response:
    return await browser.put(f"/api/v1/cart/items/{product_id}", json={"quantity": quantity})


async def cart_of(browser: Browser) -> dict[int, int]:
    answer = await browser.get("/api/v1/cart")
    assert answer.status_code == 200
    return as_dict(await answer.get_json())


def as_dict(cart: Any) -> dict[int, int]:
    for item in cart["items"]:
        assert item["name"] == f"Product {item['product_id']}"
        assert to_cents(item["price"]) == min(item["product_id"], 999_999_999)
    assert to_cents(cart["total"]) == sum(to_cents(item["price"]) * item["quantity"] for item in cart["items"])
    return {item["product_id"]: item["quantity"] for item in cart["items"]}


async def cart_by(client: Client) -> dict[int, int]:
    return as_dict(await (await client.get("/cart")).get_json())


async def test_a_visitor_has_a_cart_in_the_session(browser: Browser, app: Quart) -> None:
    empty = await browser.get("/api/v1/cart")
    assert await empty.get_json() == {"items": [], "total": "0.00"}
    assert "Set-Cookie" not in empty.headers
    assert empty.headers["Vary"] == "Cookie"
    assert as_dict(await (await put(browser, 7, 2)).get_json()) == {7: 2}
    assert (await put(browser, 2**63 - 1, 1)).status_code == 200
    assert (await put(browser, 7, 3)).status_code == 200
    assert await cart_of(browser) == {7: 3, 2**63 - 1: 1}
    for _ in range(2):
        answer = await browser.delete("/api/v1/cart/items/7")
        assert as_dict(await answer.get_json()) == {2**63 - 1: 1}
    assert await cart_of(Browser.opened(app)) == {}


async def test_parallel_additions_of_a_visitor_all_count(browser: Browser) -> None:
    assert (await put(browser, 1, 1)).status_code == 200
    answers = await asyncio.gather(*(put(browser, product_id, 2) for product_id in range(2, 12)))
    assert {answer.status_code for answer in answers} == {200}
    assert await cart_of(browser) == {1: 1} | dict.fromkeys(range(2, 12), 2)


async def test_an_account_has_one_cart_on_all_devices(client: Client) -> None:
    phone = await client.registered()
    laptop = await client.signed_in()
    answers = await asyncio.gather(
        *(
            device.put(f"/cart/items/{number}", {"quantity": number})
            for number in (1, 2, 3)
            for device in (phone, laptop)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert await cart_by(laptop) == {1: 1, 2: 2, 3: 3}
    assert (await laptop.delete("/cart/items/2")).status_code == 200
    assert await cart_by(phone) == await cart_by(await phone.by_api_key()) == {1: 1, 3: 3}
    # It outlives the sessions.
    assert (await phone.post("/logout-all")).status_code == 200
    assert await cart_by(await client.signed_in()) == {1: 1, 3: 3}


async def log_in(browser: Browser) -> str:
    """By the API: the session is for a header, the cart is the visitor's of the cookie."""
    answer = await browser.post("/api/v1/login", json={"email": "ada@example.com", "password": PASSWORD})
    assert answer.status_code == 200
    session_id: str = (await answer.get_json())["session_id"]
    return session_id


async def test_a_login_adds_the_visitors_cart_to_the_accounts(client: Client, browser: Browser) -> None:
    ada = await client.registered()
    for product_id, quantity in ((1, 60), (2, 1)):
        assert (await ada.put(f"/cart/items/{product_id}", {"quantity": quantity})).status_code == 200
    for product_id, quantity in ((1, 60), (3, 5)):
        assert (await put(browser, product_id, quantity)).status_code == 200
    await log_in(browser)
    assert await cart_by(ada) == {1: 99, 2: 1, 3: 5}
    assert await cart_of(browser) == {}
    # What is added later is merged at the next login.
    assert (await put(browser, 3, 1)).status_code == 200
    await log_in(browser)
    assert await cart_by(ada) == {1: 99, 2: 1, 3: 6}


RIGHT = {"email": "ada@example.com", "password": PASSWORD}


@pytest.mark.parametrize("end_all", [False, True])
async def test_what_is_put_into_the_cart_during_a_login_is_in_the_accounts(
    client: Client, browser: Browser, resources: Resources, monkeypatch: pytest.MonkeyPatch, end_all: bool
) -> None:
    """While the password is checked, which takes the longest."""
    ada = await client.registered()
    assert (await put(browser, 1, 2)).status_code == 200
    check = resources.passwords.verify

    async def slow(*arguments: Any, **options: Any) -> Any:
        assert {(await put(browser, *each)).status_code for each in ((1, 5), (2, 3))} == {200}
        if end_all:
            assert (await ada.post("/logout-all")).status_code == 200
        return await check(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(resources.passwords), "verify", lambda _, *given, **named: slow(*given, **named))
        answer = await browser.post("/login", form=RIGHT)
    assert answer.status_code == (401 if end_all else 303)
    assert await cart_of(browser) == {1: 5, 2: 3}
    assert await cart_by(await client.signed_in()) == ({} if end_all else {1: 5, 2: 3})


async def test_a_login_that_is_sent_twice_merges_once(client: Client, browser: Browser) -> None:
    ada = await client.registered()
    assert (await put(browser, 1, 2)).status_code == 200
    await asyncio.gather(*(log_in(browser) for _ in range(4)))
    assert await cart_by(ada) == {1: 2}


async def test_a_login_that_fails_leaves_the_cart(client: Client, browser: Browser) -> None:
    await client.register()
    assert (await put(browser, 1, 2)).status_code == 200
    wrong = await browser.post("/api/v1/login", json={"email": "ada@example.com", "password": "wrong"})
    assert wrong.status_code == 401
    assert await cart_of(browser) == {1: 2}


async def test_a_database_that_fails_during_the_merge_leaves_the_cart(
    client: Client, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await client.registered()
    assert (await put(browser, 1, 2)).status_code == 200

    async def down(*_: object) -> None:
        raise Unavailable("The database does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "get_cart_for_update", down)
        for answer in (await browser.post("/api/v1/login", json=RIGHT), await browser.post("/login", form=RIGHT)):
            assert answer.status_code == 503
    # Neither has signed in.
    assert len((await (await ada.get("/sessions")).get_json())["sessions"]) == 1
    assert await cart_of(browser) == {1: 2}
    assert (await browser.post("/login", form=RIGHT)).status_code == 303
    assert await cart_by(ada) == await cart_of(browser) == {1: 2}


async def test_a_quantity_is_1_to_99(browser: Browser, subtests: pytest.Subtests) -> None:
    for quantity in [0, -1, 100, 1.5, "2", None, True, 10**30]:
        with subtests.test(f"{ascii(quantity):.40}"):
            assert (await put(browser, 1, quantity)).status_code == 422


async def test_what_is_no_product_is_not_added(browser: Browser, client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    for product in ["0", "-1", "x", str(2**63), "1000"]:
        with subtests.test(f"{ascii(product):.40}"):
            assert (await browser.put(f"/api/v1/cart/items/{product}", json={"quantity": 1})).status_code == 404
            assert (await ada.put(f"/cart/items/{product}", {"quantity": 1})).status_code == 404
            assert await cart_of(browser) == await cart_by(ada) == {}
            # A visitor who has put nothing in has no session.
            assert not list(browser.jar.cookie_jar or ())


async def test_names_and_prices_are_those_of_now(client: Client, browser: Browser, resources: Resources) -> None:
    ada = await client.registered()
    for product_id, quantity in ((7, 3), (150, 2)):
        assert (await put(browser, product_id, quantity)).status_code == 200
        assert (await ada.put(f"/cart/items/{product_id}", {"quantity": quantity})).status_code == 200
    shown = {
        "items": [
            {"product_id": 7, "name": "Product 7", "price": "0.07", "quantity": 3},
            {"product_id": 150, "name": "Product 150", "price": "1.50", "quantity": 2},
        ],
        "total": "3.21",
    }
    carts = [await browser.get("/api/v1/cart"), await ada.get("/cart")]
    assert [await cart.get_json() for cart in carts] == [shown, shown]
    async with resources.database.write() as session:
        product = await session.get(Product, 7)
        assert product is not None
        product.name, product.price_cents = "Pen", 1000
    carts = [await browser.get("/api/v1/cart"), await ada.get("/cart")]
    assert [(await cart.get_json())["total"] for cart in carts] == ["33.00"] * 2


async def test_a_product_that_is_deleted_is_in_no_cart(client: Client, browser: Browser, resources: Resources) -> None:
    ada = await client.registered()
    for number in range(1, MOST_ITEMS + 1):
        assert (await put(browser, number, 1)).status_code == 200
        assert (await ada.put(f"/cart/items/{number}", {"quantity": 1})).status_code == 200
    await delete_product(resources, 1)
    assert 1 not in await cart_of(browser)
    assert 1 not in await cart_by(ada)
    assert (await put(browser, 1, 1)).status_code == 404
    # It takes no place either.
    assert (await put(browser, 101, 1)).status_code == 200
    assert (await ada.put("/cart/items/101", {"quantity": 1})).status_code == 200
    await delete_product(resources, 101)
    assert (await put(browser, 102, 1)).status_code == 200
    await log_in(browser)
    assert await cart_by(ada) == dict.fromkeys(range(2, MOST_ITEMS + 1), 2) | {102: 1}


async def test_statements_do_not_grow_with_items(client: Client, browser: Browser) -> None:
    ada = await client.registered()
    await ada.get("/profile")
    for number in (1, 2, 3):
        with recorded() as statements:
            assert (await ada.put(f"/cart/items/{number}", {"quantity": 1})).status_code == 200
        # The first one makes the cart. The last statement is the row of the event.
        assert len(statements) == (6 if number == 1 else 5), statements
        assert (await put(browser, number, 1)).status_code == 200
        with recorded() as statements:
            assert len(await cart_by(ada)) == number
        assert len(statements) == 2, statements
        with recorded() as statements:
            assert len(await cart_of(browser)) == number
        assert len(statements) == 1, statements
    with recorded() as statements:
        assert (await ada.delete("/cart/items/1")).status_code == 200
    assert len(statements) == 5, statements


async def test_a_cart_is_bounded(client: Client, browser: Browser) -> None:
    ada = await client.registered()

    async def by_visitor(number: int) -> Response:
        return await put(browser, number, 1)

    async def by_account(number: int) -> Response:
        return await ada.put(f"/cart/items/{number + 50}", {"quantity": 1})

    for send in (by_visitor, by_account):
        for number in range(1, MOST_ITEMS + 1):
            assert (await send(number)).status_code == 200
        assert (await send(MOST_ITEMS + 1)).status_code == 409
        # One that is there can still be changed.
        assert (await send(1)).status_code == 200
    await log_in(browser)
    merged = await cart_by(ada)
    assert len(merged) == MOST_ITEMS
    assert merged[MOST_ITEMS] == 2


async def test_a_bad_header_credential_is_no_visitor(client: Client) -> None:
    stranger = client.with_headers(X_Session_ID="abc." + "a" * 43)
    assert (await stranger.get("/cart")).status_code == 401
    assert (await stranger.put("/cart/items/1", {"quantity": 1})).status_code == 401


async def test_the_cart_goes_with_its_account(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    assert (await ada.put("/cart/items/1", {"quantity": 1})).status_code == 200
    assert (await ada.delete(f"/users/{ada.user_id}")).status_code == 200
    async with resources.database.read(primary=True) as session:
        assert await session.scalar(select(func.count()).select_from(Cart)) == 0
