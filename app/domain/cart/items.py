"""The rules of a cart, wherever it is kept: quantities by product id, within bounds."""

from collections.abc import Collection, Mapping

from app.domain.cart.schemas import MOST_ITEMS, MOST_OF_ONE, CartItem, CartShown
from app.domain.products.models import Product
from app.domain.products.prices import to_price
from app.errors import Conflict

Items = dict[int, int]


def with_item(items: Items, product_id: int, quantity: int) -> Items:
    """Conflict: the cart is full."""
    if product_id not in items and len(items) >= MOST_ITEMS:
        raise Conflict(f"A cart holds at most {MOST_ITEMS} products.")
    return items | {product_id: quantity}


def merged(items: Items, added: Mapping[int, int]) -> Items:
    """Quantities are added, up to MOST_OF_ONE. Of products beyond MOST_ITEMS the last are left out."""
    total = {product_id: items.get(product_id, 0) + added.get(product_id, 0) for product_id in (*items, *added)}
    return {product_id: min(quantity, MOST_OF_ONE) for product_id, quantity in list(total.items())[:MOST_ITEMS]}


def of_known(items: Items, products: Collection[int]) -> Items:
    """The items whose products there are."""
    return {product_id: quantity for product_id, quantity in items.items() if product_id in products}


def shown(items: Items, products: Mapping[int, Product]) -> CartShown:
    """`products` by id; items without one are left out."""
    found = [(products[product_id], quantity) for product_id, quantity in of_known(items, products).items()]
    return CartShown(
        items=[CartItem(each.id, each.name, to_price(each.price_cents), quantity) for each, quantity in found],
        total=to_price(sum(each.price_cents * quantity for each, quantity in found)),
    )
