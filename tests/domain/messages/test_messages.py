"""Messages over HTTP: sending, both boxes, reading, and what becomes of them with an account."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from quart import Quart

from app.db.base import now
from app.domain.messages.models import Message
from app.domain.messages.schemas import (
    LONGEST_CONTENT,
    LONGEST_PREVIEW,
    MOST_A_PAGE,
    MOST_UNREAD,
    MessageQuery,
    preview,
)
from app.domain.messages.service import list_messages
from app.domain.seed import seed
from app.domain.users.models import User
from app.domain.users.store import create_user
from app.principal import Principal
from app.resources import Resources
from app.settings import Settings
from tests.domain.browser import Browser
from tests.domain.client import PASSWORD, Client
from tests.domain.ownership import assert_refused_to_others, routes_with_ids
from tests.domain.statements import full_scans, plans, recorded, sorts


async def send(sender: Client, recipient: Client, content: object = "Hello") -> int:
    sent = await sender.post("/messages", {"recipient_id": recipient.user_id, "content": content})
    assert sent.status_code == 201, await sent.get_data(as_text=True)
    number: int = (await sent.get_json())["message_id"]
    return number


async def box(client: Client, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/messages{query}")
    assert answer.status_code == 200
    page: dict[str, Any] = await answer.get_json()
    return page


def contents(page: dict[str, Any]) -> list[str]:
    return [each["content"] for each in page["messages"]]


async def events_of(resources: Resources, user_id: int) -> list[Any]:
    entries: Any = await resources.redis.xrange(resources.keys.event_stream(f"user:{user_id}"))
    payloads = [value for _, fields in entries for value in fields.values() if value.startswith(b"{")]
    return [msgspec.json.decode(payload) for payload in payloads]


async def fill(resources: Resources, sender_id: int | None, recipient_id: int, messages: int) -> None:
    async with resources.database.write() as session:
        session.add(
            *(
                Message(sender_id=sender_id, recipient_id=recipient_id, content=f"{number}", created_at=now())
                for number in range(messages)
            )
        )


async def test_a_message_is_sent_told_once_and_read(client: Client, resources: Resources) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(await ada.by_api_key(), bob, "  Hello\nBob  ")
    await resources.outbox.drain()
    [told] = await events_of(resources, bob.user_id)
    assert (told["type"], told["data"]) == (
        "new_message",
        {"message_id": number, "sender_id": ada.user_id, "preview": "Hello Bob"},
    )
    assert await events_of(resources, ada.user_id) == []
    page = await box(bob)
    [message] = page["messages"]
    assert (page["unread"], page["next_before"]) == (1, None)
    assert message.keys() == {"id", "sender_id", "recipient_id", "content", "created_at", "read_at"}
    assert (message["id"], message["content"], message["read_at"]) == (number, "Hello\nBob", None)
    for _ in range(2):
        assert (await bob.post(f"/messages/{number}/read")).status_code == 204
    page = await box(bob)
    assert page["unread"] == 0
    # The sender sees when it was read; the second reading did not change that.
    assert (await box(ada, "?box=sent"))["messages"] == page["messages"]
    assert page["messages"][0]["read_at"] >= message["created_at"]
    assert (await box(ada))["messages"] == (await box(bob, "?box=sent"))["messages"] == []


async def test_one_may_write_to_oneself(client: Client) -> None:
    ada = await client.registered()
    await send(ada, ada, "Buy milk")
    assert contents(await box(ada)) == contents(await box(ada, "?box=sent")) == ["Buy milk"]


BAD: list[tuple[str, object]] = [
    *(("recipient_id", value) for value in (0, -1, 2**63, "1", 1.5, True, None, 999)),
    *(("content", value) for value in ("", " \n ", "x" * (LONGEST_CONTENT + 1), "a\0b", 1, None)),
    ("sender_id", 1),
]


async def test_what_does_not_validate_is_refused(client: Client) -> None:
    ada = await client.registered()
    for field, value in BAD:
        refused = await ada.post("/messages", {"recipient_id": ada.user_id, "content": "x", field: value})
        assert refused.status_code == 422, (field, value)
        assert [error["loc"] for error in (await refused.get_json())["errors"]] == [[field]]
    for query in ("box=all", "box=", "before=0", "before=x", f"before={2**63}", "limit=0", "limit=51", "limit=1.5"):
        assert (await ada.get(f"/messages?{query}")).status_code == 422, query
    assert (await box(ada))["messages"] == []
    assert (
        await ada.post("/messages", {"recipient_id": ada.user_id, "content": "x" * LONGEST_CONTENT})
    ).status_code == 201


async def test_a_credential_is_needed(client: Client) -> None:
    assert (await client.get("/messages")).status_code == 401
    assert (await client.post("/messages", {"recipient_id": 1, "content": "x"})).status_code == 401


async def test_the_messages_of_others_are_out_of_reach(app: Quart, client: Client) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(ada, bob)
    read = ("POST", "/api/v1/messages/<int:message_id>/read")
    assert routes_with_ids(app, only="messages") == {read}
    await assert_refused_to_others(client, "POST", f"/messages/{number}/read")
    # Nor may the sender say that it was read.
    assert (await ada.post(f"/messages/{number}/read")).status_code == 404
    eve = await client.signed_in("eve")
    for query in ("", "?box=sent", f"?before={number + 1}"):
        assert await box(eve, query) == {"messages": [], "next_before": None, "unread": 0}
    assert (await box(bob))["unread"] == 1
    assert (await bob.post("/messages/99/read")).status_code == 404


@given(limits=st.lists(st.integers(1, 7), min_size=1, max_size=12), sent=st.lists(st.booleans(), max_size=12))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_hold_each_message_once_while_others_come(
    resources: Resources, limits: list[int], sent: list[bool]
) -> None:
    async with resources.database.write() as session:
        bob = User(email=secrets.token_hex(8), name="Bob", password_hash="x", roles=[], created_at=now())
        await create_user(session, bob)
    await fill(resources, None, bob.id, 20)
    seen: list[int] = []
    before: int | None = None
    for step in range(21):
        query = MessageQuery(before=before, limit=limits[step % len(limits)])
        page = await list_messages(resources, Principal(bob.id, frozenset(), "session"), query)
        seen += [each.id for each in page.messages]
        before = page.next_before
        if before is None:
            break
        if step < len(sent) and sent[step]:
            await fill(resources, None, bob.id, 2)
    assert len(seen) == len(set(seen)) == 20
    assert seen == sorted(seen, reverse=True)


async def test_a_deleted_account_takes_its_inbox_and_leaves_what_it_sent(client: Client) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    await send(ada, bob, "From Ada")
    await send(bob, ada, "From Bob")
    assert (await ada.delete(f"/users/{ada.user_id}")).status_code == 200
    page = await box(bob)
    assert [(each["content"], each["sender_id"]) for each in page["messages"]] == [("From Ada", None)]
    assert (await bob.post(f"/messages/{page['messages'][0]['id']}/read")).status_code == 204
    assert (await box(bob, "?box=sent"))["messages"] == []
    refused = await bob.post("/messages", {"recipient_id": ada.user_id, "content": "x"})
    assert refused.status_code == 422


async def test_the_count_of_unread_messages_is_bounded(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    await fill(resources, None, ada.user_id, MOST_UNREAD + 5)
    assert (await box(ada))["unread"] == MOST_UNREAD


async def test_sending_is_limited(client: Client) -> None:
    ada = await client.registered()
    statuses = await asyncio.gather(
        *(ada.post("/messages", {"recipient_id": ada.user_id, "content": f"{number}"}) for number in range(61))
    )
    assert sorted(each.status_code for each in statuses) == [201] * 60 + [429]


async def test_statements_do_not_grow_with_rows(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    # The account is cached from then on.
    await ada.get("/profile")
    await fill(resources, ada.user_id, ada.user_id, 200)
    for query in ("?limit=1", f"?limit={MOST_A_PAGE}", "?box=sent&limit=50"):
        with recorded() as statements:
            assert (await box(ada, query))["messages"]
        assert len(statements) == 2, statements
    for path, body, most in (
        ("/messages", {"recipient_id": ada.user_id, "content": "x"}, 4),
        ("/messages/1/read", None, 1),
        ("/messages/1/read", None, 2),
    ):
        with recorded() as statements:
            assert (await ada.post(path, body)).status_code < 300
        assert 0 < len(statements) <= most, statements


async def test_both_boxes_read_an_index(client: Client, resources: Resources, settings: Settings) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    for _ in range(3):
        await fill(resources, ada.user_id, bob.user_id, 700)
        await fill(resources, bob.user_id, ada.user_id, 700)
    await ada.get("/profile")
    with recorded() as statements:
        for query in ("", "?before=3000", "?box=sent", "?box=sent&before=3000"):
            assert len((await box(ada, query))["messages"]) == 20
    found = await plans(settings.database_url, statements)
    assert len(found) == 5
    for text, plan in found.items():
        assert not full_scans(plan), (text, plan)
        assert not sorts(plan), (text, plan)


@given(st.text(max_size=400))
def test_a_preview_is_one_short_line(text: str) -> None:
    shown = preview(text)
    assert len(shown) <= LONGEST_PREVIEW
    assert len(shown.splitlines()) <= 1
    assert " ".join(text.split()).startswith(shown.removesuffix("…"))


async def test_demo_messages_go_between_the_demo_accounts(client: Client, resources: Resources) -> None:
    made = {user.email: user for user in await seed(resources)}
    editor = await client.signed_in("editor", password=made["editor@example.com"].password)
    page = await box(editor)
    assert len(page["messages"]) == page["unread"] > 2
    assert {each["sender_id"] for each in page["messages"]} <= {user.id for user in made.values()}


@pytest.mark.parametrize("kind", ["session", "cookie", "api_key"])
async def test_any_credential_sends(client: Client, kind: str) -> None:
    ada = await client.registered()
    body = {"recipient_id": ada.user_id, "content": "x"}
    if kind == "cookie":
        browser = Browser.opened(client.app)
        await browser.post("/login", form={"email": "ada@example.com", "password": PASSWORD})
        assert (await browser.post("/api/v1/messages", json=body)).status_code == 201
    else:
        sender = ada if kind == "session" else await ada.by_api_key()
        assert (await sender.post("/messages", body)).status_code == 201
