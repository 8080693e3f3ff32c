"""The SQL of products and categories."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select

from app.db.database import ReadSession, WriteSession
from app.domain.products.models import Category, Product


async def get_product(session: ReadSession, product_id: int) -> Product | None:
    return await session.get(Product, product_id)


async def get_product_for_update(session: WriteSession, product_id: int) -> Product | None:
    """Locks the row until this transaction ends."""
    return await session.scalar(select(Product).where(Product.id == product_id).with_for_update())


async def list_products(
    session: ReadSession, *, category_id: int | None, offset: int, limit: int
) -> tuple[Sequence[Product], int]:
    """A page by name, and the number of all."""
    found, count = select(Product).order_by(Product.name, Product.id), select(func.count()).select_from(Product)
    if category_id is not None:
        found, count = found.where(Product.category_id == category_id), count.where(Product.category_id == category_id)
    total = await session.scalar(count)
    return await session.scalars(found.offset(offset).limit(limit)), total or 0


async def list_products_by_id(session: ReadSession, product_ids: Collection[int]) -> Sequence[Product]:
    """Those that there are, in any order."""
    return await session.scalars(select(Product).where(Product.id.in_(product_ids)))


async def create_product(session: WriteSession, product: Product) -> None:
    """Sets the product's id."""
    session.add(product)
    await session.flush()


async def delete_product(session: WriteSession, product: Product) -> None:
    await session.execute(delete(Product).where(Product.id == product.id))


async def get_category(session: ReadSession, category_id: int) -> Category | None:
    return await session.get(Category, category_id)


async def get_category_for_update(session: WriteSession, category_id: int) -> Category | None:
    """Locks the row until this transaction ends."""
    return await session.scalar(select(Category).where(Category.id == category_id).with_for_update())


async def get_category_id(session: ReadSession, name: str) -> int | None:
    return await session.scalar(select(Category.id).where(Category.name == name))


async def list_categories(session: ReadSession) -> Sequence[Category]:
    return await session.scalars(select(Category).order_by(Category.name))


async def count_categories(session: ReadSession) -> int:
    return await session.scalar(select(func.count()).select_from(Category)) or 0


async def create_category(session: WriteSession, category: Category) -> None:
    """Sets the category's id."""
    session.add(category)
    await session.flush()


async def has_products(session: ReadSession, category_id: int) -> bool:
    return await session.scalar(select(Product.id).where(Product.category_id == category_id).limit(1)) is not None


async def delete_category(session: WriteSession, category: Category) -> None:
    await session.execute(delete(Category).where(Category.id == category.id))
