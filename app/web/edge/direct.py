"""How a GET reaches Quart: in the task of the server, and with one message for a body that is not streamed."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import Quart, Response
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.response import DataBody
from werkzeug.wrappers import Response as WerkzeugResponse

from app.kit.aio import end_tasks
from app.web.context import current

# A view that takes longer is cancelled when its client has gone: most end sooner than it is worth to look.
WATCH_AFTER_SECONDS = 0.1
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class DirectConnection(ASGIHTTPConnection):
    """Quart's own starts two tasks for each request, of which one waits for its body and for the client's disconnect.

    The body of a GET or HEAD does not count. Here its view runs in the task of the caller, and the disconnect is waited
    for where the view takes long, or where the response is a stream.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if self.scope["method"] not in ("GET", "HEAD"):
            await super().__call__(receive, send)
            return
        async with Disconnect(receive) as disconnect:
            names = [name for name, _ in self.scope["headers"]]
            # RFC 9112, 6.3: without one of these there is no body; HTTP/2 may send one all the same.
            if not _BODY_HEADERS.isdisjoint(names) or self.scope["http_version"] not in ("1.0", "1.1"):
                disconnect.watch()
            request = self._create_request_from_scope(send)
            request.body.set_complete()
            response = await self.app.handle_request(request)
            await send(_start(response))
            whole = _whole_body(response.response)
            if whole is not None:
                await send(_chunk(whole, more=False))
                return
        if not disconnect.is_known:
            streamed = Streamed(response.response, _timeout_seconds(self.app, response))
            exchange = current.get()
            if exchange is None:
                await streamed.send(receive, send)
            else:
                exchange.streamed = streamed


class Disconnect:
    """A block that is cancelled when the client has gone, and then left without an error."""

    __slots__ = ("_receive", "_task", "_timeout", "_timer", "is_known")

    def __init__(self, receive: ASGIReceiveCallable) -> None:
        self.is_known = False
        self._receive = receive
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Disconnect":
        await self._timeout.__aenter__()
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self.watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await end_tasks([self._task])
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            return True
        return False

    def watch(self) -> None:
        """Look for the disconnect from now on, and drop what comes of a body."""
        if self._task is None:
            self._task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_known = True
        self._timeout.reschedule(0)


class Streamed:
    """The body of a stream, which is sent when the framework has been left: it holds nothing of the request."""

    __slots__ = ("_parts", "_timeout_seconds")

    def __init__(self, parts: Any, timeout_seconds: float | None) -> None:
        self._parts = parts
        self._timeout_seconds = timeout_seconds

    async def send(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Until it ends or the client has gone."""
        writer = asyncio.create_task(self._write(send))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as reading:
                    writer.add_done_callback(lambda _writer: _end(reading))
                    while (await receive())["type"] != "http.disconnect":
                        pass
        finally:
            await end_tasks([writer])
        if not writer.cancelled():
            writer.result()

    async def _write(self, send: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                async with self._parts as parts:
                    async for part in parts:
                        await send(_chunk(part))
                await send(_chunk(b"", more=False))


def _end(reading: asyncio.Timeout) -> None:
    # It has ended where the disconnect came first.
    with suppress(RuntimeError):
        reading.reschedule(0)


def _whole_body(body: Any) -> bytes | None:
    """None for a stream. A response of Werkzeug's, such as a redirect's, has a list."""
    if isinstance(body, DataBody):
        return body.data[body.begin : body.end]
    if isinstance(body, list | tuple):
        return b"".join([part.encode() if isinstance(part, str) else part for part in body])
    return None


def _timeout_seconds(app: Quart, response: Any) -> float | None:
    stated: Any = getattr(response, "timeout", ...)
    seconds: float | None = app.config["RESPONSE_TIMEOUT"] if stated is ... else stated
    return seconds


def _start(response: Response | WerkzeugResponse) -> Any:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def _chunk(part: str | bytes, *, more: bool = True) -> Any:
    return {"type": "http.response.body", "body": part.encode() if isinstance(part, str) else part, "more_body": more}
