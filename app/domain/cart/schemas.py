"""The request and response bodies of the cart."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from app.domain.fields import WHOLE, Body

MOST_OF_ONE = 99
MOST_ITEMS = 100


class Quantity(Body):
    quantity: Annotated[int, Field(ge=1, le=MOST_OF_ONE, strict=True), WHOLE]


@dataclass(frozen=True, slots=True)
class CartItem:
    """`price` is that of one, as it is now: a decimal string."""

    product_id: int
    name: str
    price: str
    quantity: int


@dataclass(frozen=True, slots=True)
class CartShown:
    """`total`: the sum of the prices, as a decimal string. Products that were deleted are left out."""

    items: list[CartItem]
    total: str
