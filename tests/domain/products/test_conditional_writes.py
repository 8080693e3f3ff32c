"""A product is written on the conditions of the request."""

import pytest

from app.resources import Resources
from tests.domain.client import Client
from tests.domain.conditional_writes import (
    assert_documented,
    assert_one_of_concurrent_edits,
    assert_writes_keep_to_conditions,
)
from tests.domain.products.catalogue import FIELDS, category, editor


async def test_writes_keep_to_their_conditions(client: Client, resources: Resources, subtests: pytest.Subtests) -> None:
    edgar = await editor(client, resources)
    fields = FIELDS | {"category_id": await category(edgar)}
    await assert_writes_keep_to_conditions(edgar, "/products", fields, subtests)
    await assert_one_of_concurrent_edits(edgar, "/products", fields, fields | {"name": "Other"})
    await assert_documented(edgar, "/products/{product_id}")
