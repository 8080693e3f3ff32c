"""The slices of this service: the one list that names them."""

from app.domain.articles import slice as articles
from app.domain.cart import slice as cart
from app.domain.users import slice as users

# A slice stands after those that it needs.
SLICES = [
    users.SLICE,
    cart.SLICE,
    articles.SLICE,
]
