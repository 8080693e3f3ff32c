"""The rules of a cart, wherever it is kept: quantities by product id, within bounds."""

from collections.abc import Mapping

from app.domain.cart.schemas import MOST_ITEMS, MOST_OF_ONE, CartItem, CartShown
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


def shown(items: Items) -> CartShown:
    return CartShown([CartItem(*each) for each in items.items()], sum(items.values()))
