"""Mail about messages: to those who are not online, once, and nothing of it in the record of the task."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from app.domain.messages.tasks import notify_recipient
from app.kit.tasks.context import TaskContext
from app.mail import Mail, MailFailed, SmtpMailer
from app.resources import Resources
from tests.domain.client import Client
from tests.domain.messages.test_messages import send
from tests.domain.worker import TaskWorker
from tests.smtp import Mailbox, mailbox
from tests.waiting import eventually


@pytest.fixture
async def post() -> AsyncIterator[Mailbox]:
    async with mailbox() as opened:
        yield opened


async def notify(resources: Resources, post: Mailbox, message_id: int) -> str:
    """Run the task as the worker does, with this server."""
    with_server = dataclasses.replace(resources, mailer=SmtpMailer(post.url, sender="quartet@example.org"))
    context = TaskContext(id="x", name="x", attempt=1, owner=None, resources=with_server, report=lambda percent: None)
    result: str = await notify_recipient.function(context, message_id)
    return result


async def test_who_is_not_online_gets_mail(client: Client, resources: Resources, post: Mailbox) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(ada, bob, "See you\r\nat noon.\r\n.\r\nBcc: eve@example.com")
    assert await notify(resources, post, number) == "mailed"
    [mail] = post.mails
    assert (mail["To"], mail["Bcc"], mail["Subject"]) == ("bob@example.com", None, "You have a new message")
    text = mail.get_content()
    assert "Ada has sent you" in text
    assert "See you at noon. . Bcc: eve@example.com" in text
    assert f"{resources.public_url}/inbox" in text


async def test_who_is_online_gets_none(client: Client, resources: Resources, post: Mailbox) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(ada, bob)
    resources.presence.add(bob.user_id)
    await eventually(lambda: resources.presence.is_online(bob.user_id))
    assert await notify(resources, post, number) == "online"
    assert post.mails == []


async def test_what_is_settled_needs_none(client: Client, resources: Resources, post: Mailbox) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    read, orphaned, gone = [await send(*pair) for pair in ((ada, bob), (ada, bob), (bob, ada))]
    assert (await bob.post(f"/messages/{read}/read")).status_code == 204
    assert (await ada.delete(f"/users/{ada.user_id}")).status_code == 200
    assert [await notify(resources, post, number) for number in (read, orphaned, gone)] == ["settled"] * 3
    no_mail = dataclasses.replace(resources, mailer=None)
    context = TaskContext(id="x", name="x", attempt=1, owner=None, resources=no_mail, report=lambda percent: None)
    assert await notify_recipient.function(context, read) == "no mail"
    assert post.mails == []


async def test_a_server_that_refuses_fails_the_attempt(client: Client, resources: Resources, post: Mailbox) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(ada, bob)
    post.replies["RCPT"] = "450 Later"
    with pytest.raises(MailFailed):
        await notify(resources, post, number)
    post.replies["RCPT"] = "250 OK"
    assert await notify(resources, post, number) == "mailed"


@dataclasses.dataclass
class Kept:
    """A mailer that keeps what it is given."""

    mails: list[Mail] = dataclasses.field(default_factory=list)

    async def send(self, mail: Mail) -> None:
        self.mails.append(mail)


async def test_each_message_has_one_task_that_holds_no_content(client: Client, resources: Resources) -> None:
    ada, bob = await client.registered("ada"), await client.registered("bob")
    number = await send(ada, bob, "A secret")
    await resources.outbox.drain()
    [info] = await resources.queue.tasks("waiting")
    assert (info.name, info.payload) == ("notify_recipient", number)
    kept = Kept()
    with_mailer = dataclasses.replace(resources, mailer=kept)
    await TaskWorker(with_mailer, (notify_recipient,)).drain()
    assert [mail.to for mail in kept.mails] == ["bob@example.com"]
