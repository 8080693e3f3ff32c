"""What every page shows beside its own content."""

import pytest

from app.web.html.layout import PageLink

FRONT = PageLink("/", "News", covers=("/search", "/articles"))
SHOP = PageLink("/products", "Shop")


@pytest.mark.parametrize(
    ("link", "path", "expected"),
    [
        (FRONT, "/", True),
        (FRONT, "/search", True),
        (FRONT, "/articles/3/edit", True),
        (FRONT, "/searching", False),
        (FRONT, "/products", False),
        (SHOP, "/products", True),
        (SHOP, "/products/3", True),
        (SHOP, "/products3", False),
        (SHOP, "/", False),
    ],
)
def test_a_link_is_marked_on_the_pages_that_belong_to_it(link: PageLink, path: str, expected: bool) -> None:
    assert link.leads_to(path) is expected
