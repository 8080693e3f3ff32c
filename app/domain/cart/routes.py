"""HTTP of the cart."""

from quart import Blueprint, Response, jsonify, session
from quart_schema import document_response, tag, validate_request

from app.domain.cart import service
from app.domain.cart.items import shown
from app.domain.cart.schemas import CartShown, Quantity
from app.web.context import resources
from app.web.identity import auth

blueprint = Blueprint("cart", __name__, url_prefix="/api/v1/cart")


@blueprint.get("")
@tag(["cart"])
@document_response(CartShown)
async def get_cart() -> Response:
    """The account's cart, or this browser's where no user is signed in."""
    return jsonify(shown(await service.get_items(resources(), auth.current_principal_or_none(), session)))


@blueprint.put("/items/<int(min=1):product_id>")
@tag(["cart"])
@validate_request(Quantity)
@document_response(CartShown)
async def put_item(product_id: int, data: Quantity) -> Response:
    """Set the quantity of a product."""
    items = await service.put_item(
        resources(), auth.current_principal_or_none(), session, product_id=product_id, quantity=data.quantity
    )
    return jsonify(shown(items))


@blueprint.delete("/items/<int(min=1):product_id>")
@tag(["cart"])
@document_response(CartShown)
async def delete_item(product_id: int) -> Response:
    """Take a product out of the cart."""
    principal = auth.current_principal_or_none()
    return jsonify(shown(await service.delete_item(resources(), principal, session, product_id=product_id)))
