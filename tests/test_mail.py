"""Mail over SMTP to a real socket, and to the console."""

import pytest

from app.mail import ConsoleMailer, Mail, MailFailed, SmtpMailer
from app.settings import SettingsError, load_settings
from tests.services import free_port
from tests.smtp import mailbox

MAIL = Mail("ada@example.com", "Ein Gruß", "Grüße, and a link:\n\nhttps://example.org/?token=" + "x" * 200 + "\n")


async def test_a_mail_arrives_as_it_was_written() -> None:
    async with mailbox() as box:
        await SmtpMailer(box.url, sender="quartet@example.org").send(MAIL)
    [taken] = box.mails
    assert (taken["From"], taken["To"], taken["Subject"]) == ("quartet@example.org", MAIL.to, MAIL.subject)
    assert taken.get_content().replace("\r\n", "\n") == MAIL.text
    assert taken["Date"]
    assert taken["Message-ID"].endswith("@example.org>")


@pytest.mark.parametrize(("command", "reply"), [("RCPT", "550 no such user"), ("DATA", "452 full"), ("MAIL", "421 no")])
async def test_a_refusal_is_one_error_without_the_address(command: str, reply: str) -> None:
    async with mailbox() as box:
        box.replies[command] = reply
        with pytest.raises(MailFailed) as caught:
            await SmtpMailer(box.url, sender="quartet@example.org").send(MAIL)
    assert box.mails == []
    assert MAIL.to not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_server_that_is_down_and_one_without_tls_are_the_same_error() -> None:
    with pytest.raises(MailFailed):
        await SmtpMailer(f"smtp://127.0.0.1:{free_port()}", sender="q@example.org").send(MAIL)
    async with mailbox() as box:
        # A server that cannot encrypt gets neither the password nor the mail.
        with pytest.raises(MailFailed):
            await SmtpMailer(box.url.replace("smtp:", "smtp+starttls:"), sender="q@example.org").send(MAIL)
    assert box.mails == []


async def test_the_console_shows_links_whole(capsys: pytest.CaptureFixture[str]) -> None:
    await ConsoleMailer(sender="quartet@localhost").send(MAIL)
    printed = capsys.readouterr().out
    assert MAIL.text in printed
    assert f"To: {MAIL.to}\n" in printed


@pytest.mark.parametrize(
    "url",
    ["smtp://mail.example.org", "smtp://[::1]:25/", "smtp+starttls://u:p%40ss@mail.example.org", "smtps://u:p@h:465"],
)
def test_urls_of_servers(url: str) -> None:
    assert load_settings({"SMTP_URL": url, "MAIL_FROM": "quartet@example.org"}).smtp_url == url


@pytest.mark.parametrize(
    "settings",
    [
        {"SMTP_URL": "http://hunter2@mail"},
        {"SMTP_URL": "smtp://user:hunter2@mail.example.org"},
        {"SMTP_URL": "smtp://mail:99999"},
        {"SMTP_URL": "smtps://"},
        {"SMTP_URL": "smtp://mail", "MAIL_FROM": "hunter2 <a@b>"},
        {"SMTP_URL": "smtp://mail", "MAIL_FROM": "a@b\r\nBcc: hunter2@c"},
    ],
)
def test_what_cannot_be_right_is_refused_without_being_repeated(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"MAIL_FROM": "quartet@example.org", **settings})
    assert "hunter2" not in str(caught.value)


def test_a_sender_must_be_named_for_a_server() -> None:
    with pytest.raises(SettingsError, match="MAIL_FROM"):
        load_settings({"SMTP_URL": "smtp://mail.example.org"})
