"""The request and response bodies of products and categories."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec
from pydantic import Field, StringConstraints

from app.db.database import LARGEST_ID
from app.domain.fields import VISIBLE, WHOLE, WITHOUT_NUL, Body, Name, Page
from app.domain.products.models import Category, Product
from app.domain.products.prices import PRICE_PATTERN, to_price
from app.web.number import PLAIN_DIGITS


class ProductQuery(Page):
    """Without `category_id`: the products of all categories."""

    category_id: Annotated[int, Field(ge=1, le=LARGEST_ID), PLAIN_DIGITS] | None = None


class ProductFields(Body):
    """`price`: a decimal string from 0 to 9999999.99 with at most two decimals."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), VISIBLE]
    description: Annotated[str, StringConstraints(max_length=2000), WITHOUT_NUL] = ""
    price: Annotated[str, StringConstraints(pattern=PRICE_PATTERN), Field(examples=["4.20"])]
    category_id: Annotated[int, Field(ge=1, le=LARGEST_ID, strict=True), WHOLE]


class CategoryFields(Body):
    name: Name


@dataclass(frozen=True, slots=True)
class ProductShown:
    """A product. `price` is a decimal string with two decimals."""

    id: int
    name: str
    description: str
    price: str
    category_id: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ProductPage:
    """One page of products, by name. `pages` is the number of pages."""

    products: list[ProductShown]
    total: int
    pages: int
    current_page: int


@dataclass(frozen=True, slots=True)
class CategoryShown:
    """A category of products."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class CategoryList:
    """All categories, by name."""

    categories: list[CategoryShown]


def shown(product: Product) -> ProductShown:
    return ProductShown(
        id=product.id,
        name=product.name,
        description=product.description,
        price=to_price(product.price_cents),
        category_id=product.category_id,
        updated_at=product.updated_at,
    )


def etag_of(product: ProductShown) -> str:
    return hashlib.sha256(msgspec.json.encode(product)).hexdigest()


def category_shown(category: Category) -> CategoryShown:
    return CategoryShown(category.id, category.name)
