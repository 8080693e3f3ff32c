"""HTTP of products and categories."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.paging import page_links
from app.domain.products import categories, service
from app.domain.products.schemas import (
    CategoryFields,
    CategoryList,
    CategoryShown,
    ProductFields,
    ProductPage,
    ProductQuery,
    ProductShown,
    etag_of,
)
from app.domain.products.tags import CATEGORIES_TAG, list_tag, product_tag
from app.web.answers import answers
from app.web.caching.cached_view import cached_view
from app.web.conditions import write_condition
from app.web.context import resources
from app.web.idempotency import idempotent
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal
from app.web.links import link_to

blueprint = Blueprint("products", __name__, url_prefix="/api/v1")
# The three reads share it.
limit_reads = rate_limit("100/minute", key=by_principal, scope="products")
CACHE_SECONDS = 600


@blueprint.get("/products")
@limit_reads
@cached_view(
    CACHE_SECONDS,
    tags=lambda category_id: list_tag(category_id),
    query=("category_id", "page", "per_page"),
    public=True,
)
@answers(200, headers=("Link",))
@tag(["products"])
@validate_querystring(ProductQuery)
@document_response(ProductPage)
async def list_products(query_args: ProductQuery) -> Response:
    """A page of products by name, of all categories or of one."""
    found = await service.list_products(resources(), query_args)
    response = jsonify(found)
    category, size = query_args.category_id, query_args.per_page
    others = page_links(
        "products.list_products", page=found.current_page, pages=found.pages, category_id=category, per_page=size
    )
    response.headers.update(others)
    return response


@blueprint.get("/products/<int:product_id>")
@limit_reads
@cached_view(CACHE_SECONDS, tags=lambda product_id: product_tag(product_id), public=True)
@tag(["products"])
@document_response(ProductShown)
async def get_product(product_id: int) -> Response:
    """A product."""
    return _answer(await service.get_product(resources(), product_id))


@blueprint.post("/products")
@idempotent
@answers(409)
@auth.require_role("editor", "admin")
@tag(["products"])
@validate_request(ProductFields)
@document_response(ProductShown, 201)
async def create_product(data: ProductFields) -> ResponseReturnValue:
    """Add a product. Its category must exist."""
    created = await service.create_product(resources(), data)
    return _answer(created), 201, {"Location": link_to("products.get_product", product_id=created.id)}


@blueprint.put("/products/<int:product_id>")
@answers(409, 412)
@auth.require_role("editor", "admin")
@tag(["products"])
@validate_request(ProductFields)
@document_response(ProductShown)
async def change_product(product_id: int, data: ProductFields) -> Response:
    """Replace the fields of a product. A field that is left out gets its default.

    If-Match and If-None-Match may name its state.
    """
    return _answer(await service.change_product(resources(), product_id, data, condition=write_condition()))


@blueprint.delete("/products/<int:product_id>")
@answers(412)
@auth.require_role("editor", "admin")
@tag(["products"])
async def delete_product(product_id: int) -> ResponseReturnValue:
    """Delete a product. Carts show it no more. If-Match and If-None-Match may name its state."""
    await service.delete_product(resources(), product_id, condition=write_condition())
    return "", 204


@blueprint.get("/categories")
@limit_reads
@cached_view(CACHE_SECONDS, tags=CATEGORIES_TAG, public=True)
@tag(["products"])
@document_response(CategoryList)
async def list_categories() -> Response:
    """All categories, by name; at most 200."""
    return jsonify(await categories.list_categories(resources()))


@blueprint.post("/categories")
@idempotent
@answers(409)
@auth.require_role("editor", "admin")
@tag(["products"])
@validate_request(CategoryFields)
@document_response(CategoryShown, 201)
async def create_category(data: CategoryFields) -> ResponseReturnValue:
    """Add a category. 409: the name is taken, or there are 200."""
    created = await categories.create_category(resources(), data.name)
    return jsonify(created), 201, {"Location": link_to("products.list_products", category_id=created.id)}


@blueprint.put("/categories/<int:category_id>")
@answers(409)
@auth.require_role("editor", "admin")
@tag(["products"])
@validate_request(CategoryFields)
@document_response(CategoryShown)
async def rename_category(category_id: int, data: CategoryFields) -> Response:
    """Rename a category. 409: another one has the name."""
    return jsonify(await categories.rename_category(resources(), category_id, data.name))


@blueprint.delete("/categories/<int:category_id>")
@answers(409)
@auth.require_role("editor", "admin")
@tag(["products"])
async def delete_category(category_id: int) -> ResponseReturnValue:
    """Delete a category. 409: it has products."""
    await categories.delete_category(resources(), category_id)
    return "", 204


def _answer(product: ProductShown) -> Response:
    response = jsonify(product)
    response.set_etag(etag_of(product))
    return response
