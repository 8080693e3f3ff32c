"""Products: reads for the cache, and writes together with their event and their invalidations."""

from typing import Any

from app.db.base import now
from app.db.database import ReadSession, WriteSession
from app.domain.products import store
from app.domain.products.models import Product
from app.domain.products.prices import to_cents
from app.domain.products.schemas import ProductFields, ProductPage, ProductQuery, ProductShown, etag_of, shown
from app.domain.products.tags import PRODUCTS_TAG, list_tag, product_tag
from app.errors import Invalid, NotFound
from app.kit.events.event import BROADCAST
from app.preconditions import UNCONDITIONAL, WriteCondition
from app.resources import Resources


async def list_products(resources: Resources, query: ProductQuery) -> ProductPage:
    async with resources.database.read(primary=True) as session:
        found, total = await store.list_products(
            session, category_id=query.category_id, offset=query.offset, limit=query.per_page
        )
    return ProductPage([shown(each) for each in found], total, -(-total // query.per_page), query.page)


async def get_product(resources: Resources, product_id: int) -> ProductShown:
    async with resources.database.read(primary=True) as session:
        return shown(_found(await store.get_product(session, product_id)))


async def create_product(resources: Resources, data: ProductFields) -> ProductShown:
    """Invalid: there is no such category."""
    async with resources.database.write() as session:
        await _require_category(session, data.category_id)
        product = Product(**_columns(data), updated_at=now())
        await store.create_product(session, product)
        _tell(resources, session, product, _fields(shown(product)), {product.category_id})
    return shown(product)


async def change_product(
    resources: Resources, product_id: int, data: ProductFields, *, condition: WriteCondition = UNCONDITIONAL
) -> ProductShown:
    """Replace the fields. The event names those that differ; where none does, there is none.

    `condition`: of etag_of(). PreconditionFailed where it does not hold; Invalid: there is no such category.
    """
    async with resources.database.write() as session:
        product = _found(await store.get_product_for_update(session, product_id))
        condition.require(etag_of(shown(product)))
        before = _fields(shown(product))
        if data.category_id != product.category_id:
            await _require_category(session, data.category_id)
        for name, value in _columns(data).items():
            setattr(product, name, value)
        changes = {name: value for name, value in _fields(shown(product)).items() if value != before[name]}
        if changes:
            product.updated_at = now()
            _tell(resources, session, product, changes, {before["category_id"], product.category_id})
    return shown(product)


async def delete_product(resources: Resources, product_id: int, *, condition: WriteCondition = UNCONDITIONAL) -> None:
    """The event's changes are then {"deleted": true}. `condition` as in change_product()."""
    async with resources.database.write() as session:
        product = _found(await store.get_product_for_update(session, product_id))
        condition.require(etag_of(shown(product)))
        await store.delete_product(session, product)
        _tell(resources, session, product, {"deleted": True}, {product.category_id})


def _tell(
    resources: Resources, session: WriteSession, product: Product, changes: dict[str, Any], categories: set[int]
) -> None:
    data = {"product_id": product.id, "changes": changes}
    resources.outbox.event(session, BROADCAST, "product_updated", data)
    lists = (list_tag(category_id) for category_id in sorted(categories))
    resources.outbox.invalidate(session, PRODUCTS_TAG, product_tag(product.id), *lists)


def _columns(data: ProductFields) -> dict[str, Any]:
    return {
        "name": data.name,
        "description": data.description,
        "price_cents": to_cents(data.price),
        "category_id": data.category_id,
    }


def _fields(product: ProductShown) -> dict[str, Any]:
    """What an editor sets."""
    return {
        "name": product.name,
        "description": product.description,
        "price": product.price,
        "category_id": product.category_id,
    }


async def _require_category(session: ReadSession, category_id: int) -> None:
    if await store.get_category(session, category_id) is None:
        raise Invalid([{"loc": ["category_id"], "msg": "there is no such category"}])


def _found(product: Product | None) -> Product:
    if product is None:
        raise NotFound("There is no such product.")
    return product
