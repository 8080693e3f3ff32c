"""What plain Hypercorn (0.18) is told before it serves `app.asgi:app`; under `quartet serve` it has no effect."""

import asyncio
import logging
from typing import Any

from hypercorn.protocol import ws_stream
from quart import Quart

logger = logging.getLogger(__name__)
# asyncio's message for an error that a server has not caught.
CONNECTION_FAILED = "Unhandled exception in client_connected_cb"


def harden(app: Quart) -> None:
    """Close what Hypercorn leaves open to any client, before the app is served: compression and tracebacks.

    A compressed WebSocket message (RFC 7692) is inflated before its size is checked: 1 MB would take 1 GB of memory.
    And each malformed frame, as each connection that times out, would write some sixty lines to the log.
    """
    # Hypercorn has no setting for it. None: no extension is accepted.
    ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]

    @app.before_serving
    async def report_in_one_line() -> None:
        asyncio.get_running_loop().set_exception_handler(_report)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if context["message"] != CONNECTION_FAILED:
        loop.default_exception_handler(context)
        return
    error: BaseException | None = context.get("exception")
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    traceback = error if logger.isEnabledFor(logging.DEBUG) else None
    logger.warning("a connection has failed: %s", type(error).__name__, exc_info=traceback)
