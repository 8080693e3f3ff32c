"""The pages of products: the catalogue and a product."""

from quart import Blueprint, render_template, request
from quart_schema import hide

from app.domain.products import categories, service
from app.domain.products.schemas import CategoryList, ProductPage, ProductQuery, ProductShown
from app.domain.products.tags import CATEGORIES_TAG, PRODUCTS_TAG, product_tag
from app.kit.cache.memoize import memoize
from app.resources import Resources
from app.web.context import resources
from app.web.html.forms import validated
from app.web.html.layout import PageLink
from app.web.html.live import live_page

blueprint = Blueprint(
    "shop", __name__, template_folder="templates", static_folder="static", static_url_path="/static/products"
)
LINKS = (PageLink("/products", "Shop"),)
PER_PAGE = 24
CACHE_SECONDS = 600


@memoize(ttl_seconds=CACHE_SECONDS, tags=PRODUCTS_TAG, type=ProductPage)
async def _page(resources: Resources, category_id: int | None, page: int) -> ProductPage:
    return await service.list_products(resources, ProductQuery(category_id=category_id, page=page, per_page=PER_PAGE))


@memoize(ttl_seconds=CACHE_SECONDS, tags=CATEGORIES_TAG, type=CategoryList)
async def _categories(resources: Resources) -> CategoryList:
    return await categories.list_categories(resources)


@memoize(ttl_seconds=CACHE_SECONDS, tags=lambda product_id: product_tag(product_id), type=ProductShown)
async def _product(resources: Resources, product_id: int) -> ProductShown:
    return await service.get_product(resources, product_id)


@blueprint.get("/products")
@hide
@live_page
async def catalogue() -> str:
    query = validated(ProductQuery, request.args)
    page = await _page(resources(), query.category_id, query.page)
    listed = await _categories(resources())
    return await render_template(
        "products/catalogue.html", page=page, categories=listed.categories, chosen=query.category_id
    )


@blueprint.get("/products/<int:product_id>")
@hide
@live_page
async def product_page(product_id: int) -> str:
    product = await _product(resources(), product_id)
    names = {each.id: each.name for each in (await _categories(resources())).categories}
    return await render_template(
        "products/product.html", product=product, category=names.get(product.category_id, "Products")
    )
