"""Categories: made, renamed and deleted by editors. One with products cannot be deleted."""

from app.domain.products import store
from app.domain.products.models import Category
from app.domain.products.schemas import CategoryList, CategoryShown, category_shown
from app.domain.products.tags import CATEGORIES_TAG
from app.errors import Conflict, NotFound
from app.resources import Resources

# The list of categories has no pages.
MOST_CATEGORIES = 200


async def list_categories(resources: Resources) -> CategoryList:
    async with resources.database.read(primary=True) as session:
        return CategoryList([category_shown(each) for each in await store.list_categories(session)])


async def create_category(resources: Resources, name: str) -> CategoryShown:
    """Conflict: the name is taken, or there are MOST_CATEGORIES."""
    async with resources.database.write() as session:
        if await store.get_category_id(session, name) is not None:
            raise Conflict("There is a category of this name.")
        if await store.count_categories(session) >= MOST_CATEGORIES:
            raise Conflict(f"There are at most {MOST_CATEGORIES} categories.")
        category = Category(name=name)
        await store.create_category(session, category)
        resources.outbox.invalidate(session, CATEGORIES_TAG)
    return category_shown(category)


async def rename_category(resources: Resources, category_id: int, name: str) -> CategoryShown:
    """Conflict: another category has the name."""
    async with resources.database.write() as session:
        category = _found(await store.get_category_for_update(session, category_id))
        if await store.get_category_id(session, name) not in (None, category_id):
            raise Conflict("There is a category of this name.")
        category.name = name
        resources.outbox.invalidate(session, CATEGORIES_TAG)
    return category_shown(category)


async def delete_category(resources: Resources, category_id: int) -> None:
    """Conflict: it has products."""
    async with resources.database.write() as session:
        category = _found(await store.get_category_for_update(session, category_id))
        if await store.has_products(session, category_id):
            raise Conflict("The category has products.")
        await store.delete_category(session, category)
        resources.outbox.invalidate(session, CATEGORIES_TAG)


def _found(category: Category | None) -> Category:
    if category is None:
        raise NotFound("There is no such category.")
    return category
