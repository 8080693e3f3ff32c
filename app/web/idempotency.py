"""@idempotent: a POST that is repeated with the same Idempotency-Key is carried out once.

After draft-ietf-httpapi-idempotency-key-header-07. A key belongs to one principal and one route.
"""

import hashlib
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from quart import Response, request

from app.errors import BadRequest, Conflict, Invalid
from app.kit.aio import finished
from app.kit.keys import digest
from app.web.context import resources
from app.web.declarations import ViewT, attach
from app.web.identity import auth

KEY_HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_SECONDS = 86_400
# How long a repeat is refused because the first may still run. A process that dies leaves its key for so long.
RUNNING_SECONDS = 60
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SENT_AGAIN = ("Content-Type", "ETag", "Location")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A route that takes Idempotency-Key."""


class _Record(msgspec.Struct, array_like=True):
    """What is kept of a key: of which request, and its answer. `status` 0: it runs."""

    fingerprint: str
    status: int = 0
    headers: list[tuple[str, str]] = []
    body: bytes = b""


_decode = msgspec.msgpack.Decoder(_Record).decode


def idempotent(view: ViewT) -> ViewT:
    """Let clients repeat this POST safely. For views that need a principal, and whose answers hold no secret."""
    return attach(view, Idempotency(), decorator="@idempotent")


async def once(run: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of `run`, or the one that the first request with this key got within a day.

    Conflict while the first runs; Invalid for another body with the same key. What fails is not kept, so that it may be
    tried again. Fails closed: without Redis a request with a key is 503, because it could be carried out twice.
    """
    lines = request.headers.getlist(KEY_HEADER)
    if not lines:
        return await run()
    # Several keys are none: of a list no text is a key.
    given = ", ".join(lines)
    if not _KEY.fullmatch(given):
        raise BadRequest(f"{KEY_HEADER} must be 1 to 255 visible characters.")
    principal = auth.current_principal()
    redis = resources().redis
    name = resources().keys.own(f"idempotency:{digest(f'{principal.user_id} {request.endpoint} {given}'.encode())}")
    fingerprint = await _fingerprint()
    running = msgspec.msgpack.encode(_Record(fingerprint))
    if not await redis.set(name, running, nx=True, px=RUNNING_SECONDS * 1000):
        kept: Any = await redis.get(name)
        return _repeat(_decode(kept) if kept else _Record(fingerprint), fingerprint)

    async def run_and_keep() -> Response:
        try:
            response = await run()
        except BaseException:
            await redis.delete(name)
            raise
        if not 200 <= response.status_code < 300:
            await redis.delete(name)
            return response
        data: bytes = await response.get_data(as_text=False)
        body = zlib.compress(data)
        headers = [(each, response.headers[each]) for each in _SENT_AGAIN if each in response.headers]
        record = _Record(fingerprint, response.status_code, headers, body)
        await redis.set(name, msgspec.msgpack.encode(record), px=KEPT_SECONDS * 1000)
        return response

    # Also when the client goes away: it will repeat the request, and must find the answer.
    return await finished(run_and_keep())


def _repeat(kept: _Record, fingerprint: str) -> Response:
    if kept.fingerprint != fingerprint:
        raise Invalid([{"loc": [KEY_HEADER], "msg": "was sent with another request"}])
    if not kept.status:
        raise Conflict("The first request with this key is still running.", headers={"Retry-After": "1"})
    response = Response(zlib.decompress(kept.body), status=kept.status, headers=dict(kept.headers))
    response.headers[REPLAYED] = "true"
    return response


async def _fingerprint() -> str:
    sent: bytes = await request.get_data(as_text=False)  # type: ignore[assignment]  # as_text decides
    head = f"{request.full_path}\n{request.content_type}\n".encode()
    return hashlib.sha256(head + sent).hexdigest()
