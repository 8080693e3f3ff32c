"""Events and presence over HTTP: who may hear and publish what."""

import pytest

from app.domain.users.service import set_roles
from app.resources import Resources
from tests.domain.client import Client
from tests.domain.test_stream_revocation import streamed
from tests.waiting import eventually


async def admin(client: Client, resources: Resources) -> Client:
    await set_roles(resources, await client.register("root"), frozenset({"admin"}))
    return await client.signed_in("root")


async def test_without_a_channel_it_is_the_broadcast_and_ones_own(client: Client, resources: Resources) -> None:
    ada = await client.registered("ada")
    async with streamed(client.app, ada) as stream, streamed(client.app, client) as visitor:
        await resources.publisher.publish_to_user(ada.user_id, "tick", 1)
        await resources.publisher.publish_to_user(ada.user_id + 1, "tick", 2)
        await resources.publisher.publish_broadcast("tick", 3)
        await eventually(lambda: len(stream.events) == 2 and visitor.events)
        assert [event.data["data"] for event in stream.events] == [1, 3]
        assert [event.data["data"] for event in visitor.events] == [3]


async def test_a_visitor_hears_the_broadcast_alone(client: Client, subtests: pytest.Subtests) -> None:
    for channel in ["user:1000", "user:*", "*", "task:1", "presence"]:
        with subtests.test(f"{ascii(channel):.40}"):
            assert (await client.get(f"/events?channel={channel}")).status_code == 401


async def test_a_user_hears_no_other_and_no_pattern(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered("ada")
    for channel in ["user:1000", "user:*", "*", "task:1"]:
        with subtests.test(f"{ascii(channel):.40}"):
            assert (await ada.get(f"/events?channel=broadcast&channel={channel}")).status_code == 403


async def test_an_admin_publishes_and_hears_everything(client: Client, resources: Resources) -> None:
    root = await admin(client, resources)
    async with streamed(client.app, root, "?channel=user:*") as stream:
        body = {"channel": "user:1", "type": "notice", "data": {"text": "hello"}}
        published = await root.post("/events", body)
        assert published.status_code == 202
        await eventually(lambda: stream.events)
        assert stream.events[0].id == (await published.get_json())["id"]
        ada = await client.registered("ada")
        assert (await ada.post("/events", body)).status_code == 403


async def test_types_of_the_service_and_of_event_source_are_reserved(
    client: Client, resources: Resources, subtests: pytest.Subtests
) -> None:
    root = await admin(client, resources)
    for type in ["error", "open", "resync", "live", "interrupted", "user_online", "user_offline", "new_message"]:
        with subtests.test(f"{ascii(type):.40}"):
            refused = await root.post("/events", {"channel": "broadcast", "type": type, "data": None})
            assert refused.status_code == 422


async def test_every_other_type_of_the_kit_may_be_published(
    client: Client, resources: Resources, subtests: pytest.Subtests
) -> None:
    root = await admin(client, resources)
    for type in ["order_paid", "Order.Paid", "x" * 64]:
        with subtests.test(f"{ascii(type):.40}"):
            published = await root.post("/events", {"channel": "broadcast", "type": type})
            assert published.status_code == 202


async def test_presence_lists_who_has_a_stream(client: Client) -> None:
    assert (await client.get("/presence")).status_code == 401
    ada, bob = await client.registered("ada"), await client.registered("bob")
    assert await (await ada.get("/presence")).get_json() == {"online": [], "total": 0}
    async with streamed(client.app, bob, "?channel=presence") as stream, streamed(client.app, ada):
        # Bob's own event may be published before his stream has joined.
        await eventually(lambda: stream.events and stream.events[-1].data["data"] == {"user_id": ada.user_id})
        assert {event.type for event in stream.events} == {"user_online"}
        body = await (await ada.get("/presence")).get_json()
        assert body["total"] == 2
        assert {user["user_id"] for user in body["online"]} == {ada.user_id, bob.user_id}
        assert all(user["since"].startswith("20") for user in body["online"])
    assert (await ada.get("/presence?limit=0")).status_code == 422
