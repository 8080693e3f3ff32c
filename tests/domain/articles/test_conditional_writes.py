"""An article is written on the conditions of the request."""

import pytest

from tests.domain.client import Client
from tests.domain.conditional_writes import (
    assert_documented,
    assert_one_of_concurrent_edits,
    assert_writes_keep_to_conditions,
)

DRAFT = {"title": "Title", "content": "Text."}


async def test_writes_keep_to_their_conditions(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    await assert_writes_keep_to_conditions(ada, "/articles", DRAFT, subtests)
    await assert_one_of_concurrent_edits(ada, "/articles", DRAFT, DRAFT | {"title": "Other"})
    await assert_documented(ada, "/articles/{article_id}")
