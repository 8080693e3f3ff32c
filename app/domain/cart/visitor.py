"""A visitor's cart: fields of the session, one a product, so that parallel requests keep each other's."""

import secrets
from collections.abc import MutableMapping
from typing import Any

from app.domain.cart.items import Items

Fields = MutableMapping[str, Any]

_ITEM = "cart:"
# Names this cart: a login that is sent twice merges it once.
_ID = "cart_id"


def items_in(session: Fields) -> Items:
    return {int(name.removeprefix(_ITEM)): session[name] for name in session if name.startswith(_ITEM)}


def set_items(session: Fields, items: Items) -> None:
    """Only the fields that differ are written."""
    before = items_in(session)
    for product_id in before.keys() - items.keys():
        del session[f"{_ITEM}{product_id}"]
    for product_id, quantity in items.items():
        if before.get(product_id) != quantity:
            session[f"{_ITEM}{product_id}"] = quantity
    if items and _ID not in session:
        session[_ID] = secrets.token_hex(16)


def cart_id(session: Fields) -> str:
    """ "" for a session without a cart."""
    found: str = session.get(_ID, "")
    return found


def remove_cart(session: Fields) -> None:
    """What a parallel request adds meanwhile belongs to another cart, under an id of its own."""
    set_items(session, {})
    session[_ID] = secrets.token_hex(16)
