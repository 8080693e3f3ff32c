"""The reset of a password by mail: from the request to the link, and the token's bounds."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator

import pytest
from itsdangerous import TimestampSigner

from app.domain.users.reset_token import RESET_SECONDS, make_reset_token, read_reset_token
from app.domain.users.tasks import send_password_reset
from app.kit.tasks.context import TaskContext
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.mail import MailFailed, SmtpMailer
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION
from tests.domain.client import PASSWORD, Client
from tests.smtp import Mailbox, mailbox
from tests.test_settings import PRODUCTION

NEW = "another good password"


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as opened:
        yield opened


async def send(resources: Resources, box: Mailbox, email: str) -> None:
    """Run the task as the worker does, with this server."""
    with_server = dataclasses.replace(resources, mailer=SmtpMailer(box.url, sender="quartet@example.org"))
    context = TaskContext(id="x", name="x", attempt=1, owner=None, resources=with_server, report=lambda percent: None)
    await send_password_reset.function(context, email)


async def token_for(resources: Resources, box: Mailbox, name: str = "ada") -> str:
    await send(resources, box, f"{name}@example.com")
    found = re.search(r"/password-reset/confirm\?token=(\S+)", box.mails[-1].get_content())
    assert found
    return found[1]


async def confirm(client: Client, token: str, password: str = NEW) -> int:
    return (await client.post("/password-reset/confirm", {"token": token, "password": password})).status_code


async def test_the_link_sets_a_new_password_once_and_ends_the_sessions(
    client: Client, resources: Resources, box: Mailbox
) -> None:
    ada = await client.registered()
    token = await token_for(resources, box)
    assert box.mails[0]["To"] == "ada@example.com"
    # A password that is too short does not use the token up.
    assert await confirm(client, token, "short") == 422
    assert await confirm(client, token) == 204
    assert (await ada.get("/profile")).status_code == 401
    assert (await client.log_in()).status_code == 401
    assert (await client.log_in(password=NEW)).status_code == 200
    refused = await client.post("/password-reset/confirm", {"token": token, "password": NEW})
    assert refused.status_code == 422
    assert (await refused.get_json())["errors"][0]["loc"] == ["token"]


async def test_of_parallel_uses_of_one_token_one_counts(client: Client, resources: Resources, box: Mailbox) -> None:
    await client.register()
    token = await token_for(resources, box)
    tried = await asyncio.gather(*(confirm(client, token, f"a long password {number}") for number in range(5)))
    assert sorted(tried) == [204, 422, 422, 422, 422]


async def test_a_change_of_password_or_address_ends_the_token(
    client: Client, resources: Resources, box: Mailbox
) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    tokens = [await token_for(resources, box, name) for name in ("ada", "eve")]
    assert (await ada.put("/password", {"current": PASSWORD, "new": NEW})).status_code == 204
    changed = await eve.put(f"/users/{eve.user_id}", {"name": "Eve", "email": "new@example.com"})
    assert changed.status_code == 200
    assert [await confirm(client, token) for token in tokens] == [422, 422]


async def test_a_known_and_an_unknown_address_get_the_same_answer(
    client: Client, resources: Resources, box: Mailbox
) -> None:
    await client.register()
    answers = [await client.post("/password-reset", {"email": f"{name}@example.com"}) for name in ("ada", "nobody")]
    assert [(answer.status_code, await answer.get_data()) for answer in answers] == [(202, b"")] * 2
    assert (await resources.queue.depth())["normal"] == 2
    await send(resources, box, "nobody@example.com")
    assert box.mails == []


async def test_a_waiting_request_is_not_repeated_and_requests_are_limited(client: Client, resources: Resources) -> None:
    sent = [(await client.post("/password-reset", {"email": "ADA@example.com"})).status_code for _ in range(4)]
    assert sent == [202, 202, 202, 429]
    assert (await resources.queue.depth())["normal"] == 1


async def test_neither_address_nor_token_is_in_a_key_or_a_log(
    client: Client, resources: Resources, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="app")
    await client.register()
    assert (await client.post("/password-reset", {"email": "ada@example.com"})).status_code == 202
    token = await token_for(resources, box)
    box.replies["RCPT"] = "550 ada@example.com is unknown"
    with pytest.raises(MailFailed):
        await send(resources, box, "ada@example.com")
    assert await confirm(client, token) == 204
    names = [name.decode() async for name in resources.redis.scan_iter(match=f"*{resources.keys.namespace}:*")]
    assert names
    for text in (*names, caplog.text):
        assert "ada@example.com" not in text
        assert token not in text


async def test_made_up_tokens_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    for token in ["", "x", "é", "a.b.c", "x" * 512]:
        with subtests.test(f"{ascii(token):.40}"):
            assert await confirm(client, token) == 422


def test_a_token_ends_after_an_hour_and_is_of_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_reset_token(7, fingerprint="f", secret_key="one")
    read = read_reset_token(token, secret_key="one")
    assert read is not None
    assert (read.user_id, read.fingerprint) == (7, "f")
    assert read_reset_token(token, secret_key="other") is None
    now = TimestampSigner("x").get_timestamp()
    for later, valid in ((RESET_SECONDS - 5, True), (RESET_SECONDS + 5, False)):
        monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _, later=later: now + later)
        assert (read_reset_token(token, secret_key="one") is not None) is valid


async def test_without_a_server_production_says_so(client: Client, resources: Resources) -> None:
    settings = load_settings({**PRODUCTION, "DATABASE_URL": "sqlite+aiosqlite:///none.db"})
    async with open_resources(settings, role="test", telemetry=NoTelemetry()) as opened:
        assert opened.mailer is None
    client.app.extensions[EXTENSION] = dataclasses.replace(resources, mailer=None)
    refused = await client.post("/password-reset", {"email": "ada@example.com"})
    assert refused.status_code == 503
    assert "no mail" in (await refused.get_json())["detail"]
