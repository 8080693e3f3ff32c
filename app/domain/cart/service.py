"""The cart: an account's is the same on all devices, a visitor's is kept in the session and merged at the login."""

from collections.abc import Callable

from app.domain.cart import store, visitor
from app.domain.cart.items import Items, merged, with_item
from app.domain.cart.models import Cart
from app.domain.cart.visitor import Fields
from app.errors import NotFound
from app.principal import Principal
from app.resources import Resources


async def get_items(resources: Resources, principal: Principal | None, session: Fields) -> Items:
    if principal is None:
        return visitor.items_in(session)
    async with resources.database.read(primary=True) as reading:
        cart = await store.get_cart(reading, principal.user_id)
    return {} if cart is None else _items(cart)


async def put_item(
    resources: Resources, principal: Principal | None, session: Fields, *, product_id: int, quantity: int
) -> Items:
    """The items after it. Conflict: the cart is full."""
    if principal is None:
        return visitor.put_item(session, product_id, quantity)
    return await _change(resources, principal.user_id, lambda items: with_item(items, product_id, quantity))


async def delete_item(resources: Resources, principal: Principal | None, session: Fields, *, product_id: int) -> Items:
    """The items after it, also where it was not there."""
    if principal is None:
        return visitor.delete_item(session, product_id)
    return await _change(
        resources, principal.user_id, lambda items: {key: value for key, value in items.items() if key != product_id}
    )


async def merge_at_login(resources: Resources, user_id: int, session: Fields) -> None:
    """Move the visitor's cart into the account's. A repeat, as by a login that was sent twice, adds nothing."""
    added, cart_id = visitor.items_in(session), visitor.cart_id(session)
    if added:
        async with resources.database.write() as writing:
            cart = await store.get_cart_for_update(writing, user_id)
            if cart is not None and cart.merged != cart_id:
                cart.items, cart.merged = _fields(merged(_items(cart), added)), cart_id
    # After the commit: were it before, a failure would lose the cart.
    if cart_id:
        visitor.remove_cart(session)


async def _change(resources: Resources, user_id: int, change: Callable[[Items], Items]) -> Items:
    async with resources.database.write() as session:
        cart = await store.get_cart_for_update(session, user_id)
        if cart is None:
            raise NotFound("There is no such user.")
        items = change(_items(cart))
        cart.items = _fields(items)
    return items


def _items(cart: Cart) -> Items:
    return {int(product_id): quantity for product_id, quantity in cart.items.items()}


def _fields(items: Items) -> dict[str, int]:
    return {str(product_id): quantity for product_id, quantity in items.items()}
