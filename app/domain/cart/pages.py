"""The page of the cart, and what the page of a product sends to it."""

from quart import Blueprint, Response, flash, redirect, render_template, request, session
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.domain.cart import service
from app.domain.cart.schemas import MOST_OF_ONE, Quantity
from app.errors import AppError, Invalid
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, show_problems, validated
from app.web.html.layout import PageLink
from app.web.html.live import live_page
from app.web.identity import auth

blueprint = Blueprint(
    "cart_pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static/cart"
)
LINKS = (PageLink("/cart", "Cart"),)


async def _problem(problem: AppError) -> Response:
    """Said on the page of the cart, which has a form for each product. While it cannot be shown: an error's page."""
    if problem.status >= 500:
        raise problem
    text = f"A quantity is a whole number from 1 to {MOST_OF_ONE}." if isinstance(problem, Invalid) else problem.detail
    await flash(text or problem.title, "bad")
    response: Response = redirect("/cart", SEE_OTHER)  # type: ignore[assignment]
    return response


show_problems(blueprint, _problem)


@blueprint.get("/cart")
@hide
@live_page
async def cart_page() -> str:
    cart = await service.get_cart(resources(), auth.current_principal_or_none(), session)
    return await render_template("cart/cart.html", cart=cart)


@blueprint.post("/cart/items/<int(min=1):product_id>")
@hide
async def put_item(product_id: int) -> ResponseReturnValue:
    """`adds`: the quantity is added to what is in the cart; otherwise it takes its place."""
    form = await request.form
    text = form.get("quantity", "")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else 0
    quantity = validated(Quantity, {"quantity": number}).quantity
    found, principal = resources(), auth.current_principal_or_none()
    if "adds" in form:
        cart = await service.get_cart(found, principal, session)
        quantity += sum(each.quantity for each in cart.items if each.product_id == product_id)
    quantity = min(quantity, MOST_OF_ONE)
    await service.put_item(found, principal, session, product_id=product_id, quantity=quantity)
    return redirect("/cart", SEE_OTHER)


@blueprint.post("/cart/items/<int(min=1):product_id>/remove")
@hide
async def remove_item(product_id: int) -> ResponseReturnValue:
    await service.delete_item(resources(), auth.current_principal_or_none(), session, product_id=product_id)
    return redirect("/cart", SEE_OTHER)
