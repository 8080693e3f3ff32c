"""WebSocket handshakes are answered like requests: what sees each response sees theirs, with its headers and status."""

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Quart, Response, Websocket, current_app
from werkzeug.datastructures import Headers

from app.kit.client.deadline import start_budget

AFTER_ANSWER = "quartet_after_answer"
AnswerHook = Callable[[Response], Awaitable[Response]]


class Handshake(Websocket):
    """A WebSocket whose acceptance passes the hooks of after_answer(), as a response with status 101."""

    accepted = False
    closed = False

    async def accept(self, headers: dict[str, Any] | Headers | None = None, subprotocol: str | None = None) -> None:
        if self.accepted:
            return
        self.accepted = True
        answer = await after_hooks(Response(b"", status=101, headers=headers))
        for name in ("Content-Type", "Content-Length"):
            answer.headers.pop(name, None)
        # From here on it lives for hours: each wait for Redis has a time of its own.
        start_budget(None)
        await super().accept(answer.headers, subprotocol)

    async def close(self, code: int, reason: str = "") -> None:
        if not self.accepted and not self.closed:
            # Its client gets 403 from the server. The hooks come first: a server may cancel the view once it has this.
            await after_hooks(Response(b"", status=403))
        self.closed = True
        await super().close(code, reason)


def before_view(app: Quart, hook: Callable[[], Awaitable[None]]) -> None:
    """Run `hook` before the view of each request and of each WebSocket."""
    app.before_request(hook)
    app.before_websocket(hook)


def after_answer(app: Quart, hook: AnswerHook) -> None:
    """Run `hook` on the response to each request, and on the answer to each handshake."""
    app.after_request(hook)
    app.extensions.setdefault(AFTER_ANSWER, []).append(hook)


async def after_hooks(response: Response) -> Response:
    """The answer to a handshake as the hooks leave it; like Quart's, the last one registered is the first to run."""
    for hook in reversed(current_app.extensions.get(AFTER_ANSWER, [])):
        response = await hook(response)
    return response
