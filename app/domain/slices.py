"""The slices of this service: the one list that names them."""

from app.domain.articles import slice as articles
from app.domain.cart import slice as cart
from app.domain.messages import slice as messages
from app.domain.products import slice as products
from app.domain.reports import slice as reports
from app.domain.users import slice as users

# A slice stands after those that it needs.
SLICES = [
    users.SLICE,
    products.SLICE,
    cart.SLICE,
    messages.SLICE,
    articles.SLICE,
    reports.SLICE,
]
