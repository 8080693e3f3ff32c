"""Mail: by SMTP (RFC 5321), or printed to the console in development."""

import ssl
import sys
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

SMTP_SECONDS = 20.0
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class MailFailed(Exception):
    """The server did not take the mail. The message has no address of the mail, so it may be logged."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A text for one address."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None:
        """MailFailed: it was not taken."""


class ConsoleMailer:
    """Prints each mail to standard output."""

    def __init__(self, *, sender: str) -> None:
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        # As it is read, not as it is sent: the encoding of a transfer would break links.
        text = f"From: {self._sender}\nTo: {mail.to}\nSubject: {mail.subject}\n\n{mail.text}\n{'-' * 72}\n"
        sys.stdout.write(text)
        sys.stdout.flush()


class SmtpMailer:
    """Sends each mail over a connection of its own. `url` is the setting SMTP_URL."""

    def __init__(self, url: str, *, sender: str, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: by default a server's certificate is checked against the system's authorities."""
        parts = urlsplit(url)
        self._sender = sender
        self._tls = tls
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._username = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, mail: Mail) -> None:
        try:
            await aiosmtplib.send(
                self._message(mail),
                hostname=self._host,
                port=self._port,
                username=self._username,
                password=self._password,
                use_tls=self._scheme == "smtps",
                start_tls=self._scheme == "smtp+starttls",
                tls_context=self._tls,
                timeout=SMTP_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            # Its own text names the recipient.
            code = getattr(error, "code", None)
            raise MailFailed(f"{type(error).__name__}{f' {code}' if code else ''}") from None

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, mail.to, mail.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.partition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice answers it
        message.set_content(mail.text)
        return message
