"""What the service takes from the products."""

from app.domain.products import pages
from app.domain.products.models import Category, Product
from app.domain.products.routes import blueprint
from app.domain.products.seed import add_demo_products
from app.domain.slice import Slice

SLICE = Slice(
    blueprint=blueprint,
    pages=pages.blueprint,
    links=pages.LINKS,
    tables=(Category, Product),
    seed=add_demo_products,
)
