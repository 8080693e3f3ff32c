"""An SMTP server (RFC 5321) on a free port, as far as one mail a connection needs it."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

DATA = "354 Go on"
REPLIES = {"EHLO": "250 mail.test", "MAIL": "250 OK", "RCPT": "250 OK", "DATA": DATA, "QUIT": "221 Bye"}


class Mailbox:
    """`mails`: what was taken. `replies`: by command, to be changed by a test of refusals."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.replies = dict(REPLIES)
        self.port = 0
        self.conversations: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations.add(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        while line := await reader.readline():
            reply = self.replies.get(line[:4].decode().upper(), "502 Unknown")
            writer.write(f"{reply}\r\n".encode())
            if reply == DATA:
                # A dot at the start of a line has been doubled (RFC 5321, 4.5.2).
                raw = (await reader.readuntil(b"\r\n.\r\n")).replace(b"\r\n..", b"\r\n.")
                self.mails.append(email.message_from_bytes(raw[:-3], policy=email.policy.default))
                writer.write(b"250 Taken\r\n")
            elif reply.startswith("221"):
                break
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def mailbox() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    server = await asyncio.start_server(box.accept, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    async with server:
        yield box
        # The clients close their connections, which ends these.
        await asyncio.wait_for(asyncio.gather(*box.conversations, return_exceptions=True), 20)
