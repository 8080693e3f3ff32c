"""The cart: an account's is the same on all devices, a visitor's is kept in the session and merged at the login."""

from collections.abc import Callable, Collection

from app.db.database import ReadSession, WriteSession
from app.domain.cart import store, visitor
from app.domain.cart.items import Items, merged, of_known, shown, with_item
from app.domain.cart.models import Cart
from app.domain.cart.schemas import CartShown
from app.domain.cart.visitor import Fields
from app.domain.products.models import Product
from app.domain.products.store import list_products_by_id
from app.errors import NotFound
from app.kit.events.event import user_channel
from app.principal import Principal
from app.resources import Resources

Products = dict[int, Product]


async def get_cart(resources: Resources, principal: Principal | None, session: Fields) -> CartShown:
    async with resources.database.read(primary=True) as reading:
        cart = None if principal is None else await store.get_cart(reading, principal.user_id)
        items = visitor.items_in(session) if principal is None else _items(cart)
        return shown(items, await _products(reading, items))


async def put_item(
    resources: Resources, principal: Principal | None, session: Fields, *, product_id: int, quantity: int
) -> CartShown:
    """The cart after it. NotFound: there is no such product. Conflict: the cart is full."""

    def put(items: Items, products: Products) -> Items:
        if product_id not in products:
            raise NotFound("There is no such product.")
        return with_item(of_known(items, products), product_id, quantity)

    return await _change(resources, principal, session, put, added=[product_id])


async def delete_item(
    resources: Resources, principal: Principal | None, session: Fields, *, product_id: int
) -> CartShown:
    """The cart after it, also where the product was not in it."""

    def without(items: Items, products: Products) -> Items:
        return of_known(items, products.keys() - {product_id})

    return await _change(resources, principal, session, without)


async def merge_at_login(resources: Resources, user_id: int, session: Fields) -> None:
    """Move the visitor's cart into the account's. A repeat, as by a login that was sent twice, adds nothing."""
    added, cart_id = visitor.items_in(session), visitor.cart_id(session)
    if added:
        async with resources.database.write() as writing:
            cart = await store.get_cart_for_update(writing, user_id)
            if cart is not None and cart.merged != cart_id:
                items = _items(cart)
                products = await _products(writing, [*items, *added])
                both = merged(of_known(items, products), of_known(added, products))
                _update(resources, writing, cart, both)
                cart.merged = cart_id
    # After the commit: were it before, a failure would lose the cart.
    if cart_id:
        visitor.remove_cart(session)


async def _change(
    resources: Resources,
    principal: Principal | None,
    session: Fields,
    change: Callable[[Items, Products], Items],
    *,
    added: Collection[int] = (),
) -> CartShown:
    """`change` gets the items, and the products of them and of `added` that there are."""
    if principal is None:
        items = visitor.items_in(session)
        async with resources.database.read(primary=True) as reading:
            products = await _products(reading, [*items, *added])
        items = change(items, products)
        visitor.set_items(session, items)
        return shown(items, products)
    async with resources.database.write() as writing:
        cart = await store.get_cart_for_update(writing, principal.user_id)
        if cart is None:
            raise NotFound("There is no such user.")
        items = _items(cart)
        products = await _products(writing, [*items, *added])
        items = change(items, products)
        _update(resources, writing, cart, items)
    return shown(items, products)


def _update(resources: Resources, writing: WriteSession, cart: Cart, items: Items) -> None:
    """The account's other tabs and devices are told of a change."""
    fields = _fields(items)
    if fields != cart.items:
        cart.items = fields
        resources.outbox.event(writing, user_channel(cart.user_id), "cart_changed", None)


async def _products(session: ReadSession, product_ids: Collection[int]) -> Products:
    return {each.id: each for each in await list_products_by_id(session, product_ids)} if product_ids else {}


def _items(cart: Cart | None) -> Items:
    return {} if cart is None else {int(product_id): quantity for product_id, quantity in cart.items.items()}


def _fields(items: Items) -> dict[str, int]:
    return {str(product_id): quantity for product_id, quantity in items.items()}
