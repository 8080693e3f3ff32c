"""HTTP of the cart."""

from quart import Blueprint, Response, jsonify, session
from quart_schema import document_response, tag, validate_request

from app.domain.cart import service
from app.domain.cart.schemas import CartShown, Quantity
from app.web.answers import answers
from app.web.context import resources
from app.web.identity import auth

blueprint = Blueprint("cart", __name__, url_prefix="/api/v1/cart")


@blueprint.get("")
@tag(["cart"])
@document_response(CartShown)
async def get_cart() -> Response:
    """The account's cart, or this browser's where no user is signed in."""
    return jsonify(await service.get_cart(resources(), auth.current_principal_or_none(), session))


@blueprint.put("/items/<int:product_id>")
@answers(409)
@tag(["cart"])
@validate_request(Quantity)
@document_response(CartShown)
async def put_item(product_id: int, data: Quantity) -> Response:
    """Set the quantity of a product. 404: there is no such product. 409: the cart is full."""
    principal = auth.current_principal_or_none()
    cart = await service.put_item(resources(), principal, session, product_id=product_id, quantity=data.quantity)
    return jsonify(cart)


@blueprint.delete("/items/<int:product_id>")
@tag(["cart"])
@document_response(CartShown)
async def delete_item(product_id: int) -> Response:
    """Take a product out of the cart."""
    principal = auth.current_principal_or_none()
    return jsonify(await service.delete_item(resources(), principal, session, product_id=product_id))
