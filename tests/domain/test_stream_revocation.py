"""Streams end with what let them in, on every node: logout, keys, passwords, roles, accounts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from quart import Quart
from quart.testing import connections

from app.domain.users.service import set_roles
from app.factory import create_app
from app.kit.sessions.revocation import Revocation
from app.resources import Resources
from app.settings import Settings
from app.web.context import EXTENSION
from tests.application import ALL_SLICES
from tests.domain.client import PASSWORD, Client
from tests.kit.events.event_streams import Parser
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.postgres]


@pytest.fixture(params=["servers"])
def settings(settings: Settings) -> Settings:
    """Both nodes need the same Redis: not the embedded one."""
    return settings


@pytest.fixture
async def other(app: Quart, settings: Settings) -> AsyncIterator[Quart]:
    """Another node of the same service."""
    created = create_app(settings, slices=ALL_SLICES)
    async with created.test_app():
        yield created


class OpenStream(Parser):
    """A stream of one node, read until it ends."""

    def __init__(self, connection: connections.TestHTTPConnection) -> None:
        super().__init__()
        self.connection = connection
        self.retries = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            chunk = await self.connection.receive()
            self.retries += chunk.count(b"retry:")
            self.feed(chunk)

    def has_ended(self) -> bool:
        """A stream begins and ends with a `retry:`."""
        return self.retries == 2


@asynccontextmanager
async def streamed(app: Quart, client: Client, query: str = "") -> AsyncIterator[OpenStream]:
    connection = app.test_client(use_cookies=False).request(f"/api/v1/events{query}", headers=client.headers)
    assert isinstance(connection, connections.TestHTTPConnection)
    async with connection:
        stream = OpenStream(connection)
        await eventually(lambda: stream.last_event_id)
        yield stream
        stream.task.cancel()
        await connection.disconnect()


def resources_of(app: Quart) -> Resources:
    found: Resources = app.extensions[EXTENSION]
    return found


async def log_out(client: Client, resources: Resources) -> None:
    assert (await client.post("/logout")).status_code == 204


async def change_password(client: Client, resources: Resources) -> None:
    done = await client.put("/password", {"current": PASSWORD, "new": "another battery staple"})
    assert done.status_code == 204, await done.get_data(as_text=True)


async def delete_account(client: Client, resources: Resources) -> None:
    assert (await client.delete(f"/users/{client.user_id}")).status_code == 200


async def lose_role(client: Client, resources: Resources) -> None:
    await set_roles(resources, client.user_id, frozenset())


ENDS = {"logout": log_out, "password": change_password, "account": delete_account, "role": lose_role}


@pytest.mark.parametrize("reason", ENDS)
async def test_a_session_that_ends_ends_its_streams_on_every_node(
    app: Quart, other: Quart, client: Client, resources: Resources, reason: str
) -> None:
    user_id = await client.register("ada")
    await set_roles(resources, user_id, frozenset({"admin"}))
    ada = await client.signed_in("ada")
    bob = await client.registered("bob")
    everyone = "?channel=user:*"
    async with (
        streamed(app, ada, everyone) as near,
        streamed(other, ada, everyone) as far,
        streamed(other, bob) as others,
        streamed(other, client) as visitor,
    ):
        await ENDS[reason](ada, resources)
        await eventually(lambda: near.has_ended() and far.has_ended())
        await resources.publisher.publish_to_user(bob.user_id, "tick", 1)
        await resources.publisher.publish_broadcast("tick", 2)
        await eventually(lambda: len(others.events) == 2 and visitor.events)
        assert far.events == near.events == []
        # What let it in has ended: the client that returns is refused.
        refused = await ada.get("/events?channel=user:*")
        assert refused.status_code in (401, 403)


async def test_a_revoked_key_ends_its_streams_and_no_others(
    app: Quart, other: Quart, client: Client, resources: Resources
) -> None:
    ada = await client.registered("ada")
    keyed = await ada.by_api_key()
    [key] = (await (await ada.get("/api-keys")).get_json())["api_keys"]
    async with streamed(other, keyed) as by_key, streamed(other, ada) as by_session:
        assert (await ada.delete(f"/api-keys/{key['id']}")).status_code == 204
        await eventually(by_key.has_ended)
        await resources.publisher.publish_to_user(ada.user_id, "tick", 1)
        await eventually(lambda: by_session.events)
        assert by_key.events == []


@pytest.mark.parametrize("reason", ["account", "role"])
async def test_an_account_or_a_role_that_ends_ends_the_streams_of_keys_too(
    app: Quart, other: Quart, client: Client, resources: Resources, reason: str
) -> None:
    ada = await client.registered("ada")
    keyed = await ada.by_api_key()
    async with streamed(app, keyed) as near, streamed(other, keyed) as far:
        await ENDS[reason](ada, resources)
        await eventually(lambda: near.has_ended() and far.has_ended())


async def test_a_revocation_that_was_missed_ends_the_stream_when_redis_is_back(
    app: Quart, other: Quart, client: Client, resources: Resources
) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    async with streamed(other, ada) as ended, streamed(other, bob) as stays:
        hub = resources_of(other).hub
        # The session ends in Redis; no word of it reaches the other node.
        session = await resources.sessions.get(ada.headers["X-Session-ID"], channel="header")
        assert session is not None
        keys = [key async for key in resources.redis.scan_iter(match=f"*{session.public_id}*")]
        await resources.redis.unlink(*keys)
        hub.check_grants()
        await eventually(ended.has_ended)
        await resources.publisher.publish_broadcast("tick", 1)
        await eventually(lambda: stays.events)


async def test_a_credential_that_ended_between_its_check_and_the_stream_lets_in_nothing(
    app: Quart, client: Client, resources: Resources
) -> None:
    ada = await client.registered("ada")
    request = app.test_client(use_cookies=False).request("/api/v1/events", headers=ada.headers)
    assert isinstance(request, connections.TestHTTPConnection)
    began = asyncio.Event()
    add = resources.hub._open.add

    def add_later(stream: object) -> None:
        # The revocation arrives when the credential is checked already and the stream is not known yet.
        resources.hub.revoke(ada.user_id)
        began.set()
        add(stream)  # type: ignore[arg-type]

    resources.hub._open.add = add_later  # type: ignore[method-assign]
    async with request:
        stream = OpenStream(request)
        await eventually(stream.has_ended)
        assert began.is_set()
        assert stream.retry_ms is not None
        assert stream.last_event_id == ""


async def test_the_wire_of_a_revocation_reaches_the_hub(app: Quart, client: Client, resources: Resources) -> None:
    ada = await client.registered("ada")
    async with streamed(app, ada) as stream:
        await resources.sessions.revoke(Revocation(ada.user_id))
        await eventually(stream.has_ended)
