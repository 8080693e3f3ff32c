"""What the service takes of the cart."""

from app.domain.cart import pages
from app.domain.cart.models import Cart
from app.domain.cart.routes import blueprint
from app.domain.cart.service import merge_at_login
from app.domain.slice import Slice

SLICE = Slice(
    blueprint=blueprint,
    pages=pages.blueprint,
    links=pages.LINKS,
    tables=(Cart,),
    at_login=merge_at_login,
)
