"""A POST that is repeated with its Idempotency-Key is carried out once."""

import asyncio

import pytest
from werkzeug.datastructures import Headers

from app.resources import Resources
from tests.domain.client import Client

DRAFT = {"title": "Once", "content": "Only once."}


async def total(client: Client) -> int:
    number: int = (await (await client.get("/articles")).get_json())["total"]
    return number


async def test_a_repeat_gets_the_first_answer(client: Client) -> None:
    ada = await client.registered()
    first = await ada.post("/articles", DRAFT, Idempotency_Key="k1")
    again = await ada.post("/articles", DRAFT, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert await first.get_data() == await again.get_data()
    for name in ("Location", "ETag", "Content-Type"):
        assert first.headers[name] == again.headers[name]
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await total(client) == 1
    await ada.post("/articles", DRAFT, Idempotency_Key="k2")
    await ada.post("/articles", DRAFT)
    assert await total(client) == 3


async def test_a_key_belongs_to_its_principal_and_its_request(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    await ada.post("/articles", DRAFT, Idempotency_Key="k")
    assert (await ada.post("/articles", DRAFT | {"title": "Other"}, Idempotency_Key="k")).status_code == 422
    assert "Idempotency-Replayed" not in (await eve.post("/articles", DRAFT, Idempotency_Key="k")).headers
    assert await total(client) == 2
    # The key is looked at after the credential.
    assert (await client.post("/articles", DRAFT, Idempotency_Key="k")).status_code == 401


async def test_of_repeats_at_the_same_time_one_is_carried_out(client: Client) -> None:
    ada = await client.registered()
    answers = await asyncio.gather(*(ada.post("/articles", DRAFT, Idempotency_Key="k") for _ in range(10)))
    statuses = {answer.status_code for answer in answers}
    assert 201 in statuses <= {201, 409}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 409)
    assert await total(client) == 1


async def test_what_fails_may_be_tried_again(client: Client) -> None:
    ada = await client.registered()
    assert (await ada.post("/articles", {"title": " "}, Idempotency_Key="k")).status_code == 422
    assert (await ada.post("/articles", DRAFT, Idempotency_Key="k")).status_code == 201


async def test_a_malformed_key_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    for key in ["", "x" * 256, "a b"]:
        with subtests.test(f"{ascii(key):.40}"):
            assert (await ada.post("/articles", DRAFT, Idempotency_Key=key)).status_code == 400
            assert await total(client) == 0
    two = Headers([*ada.headers.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    refused = await ada.app.test_client().post("/api/v1/articles", json=DRAFT, headers=two)
    assert (refused.status_code, await total(client)) == (400, 0)


async def test_keys_end_after_a_day(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    await ada.post("/articles", DRAFT, Idempotency_Key="k")
    pattern = f"*{resources.keys.namespace}:*idempotency*"
    [name] = [name async for name in resources.redis.scan_iter(match=pattern, count=1000)]
    assert 86_000 < await resources.redis.ttl(name) <= 86_400
