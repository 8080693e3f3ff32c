"""The tags of cached products."""

# On the lists of all products.
PRODUCTS_TAG = "products"
# On the list of categories.
CATEGORIES_TAG = "categories"


def list_tag(category_id: int | None) -> str:
    """On the lists of a category; None: of all products. A change leaves the lists of other categories cached."""
    return PRODUCTS_TAG if category_id is None else f"category:{category_id}"


def product_tag(product_id: int) -> str:
    return f"product:{product_id}"
