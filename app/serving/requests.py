"""What a request's head must be, before Hypercorn (0.18) reads it.

Hypercorn takes what h11 takes: it fails with a traceback for a target that is no path (`GET ?x`), serves
Content-Length beside Transfer-Encoding and keeps the connection (RFC 9112, 6.1), bounds a head only while it is
incomplete, and turns to HTTP/2 by prior knowledge (hypercorn #317 is of the Upgrade, which docs/serving.md describes).
"""

import re
from typing import Any

import h11

from app.serving.limits import Limits

_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
_VERSIONS = (b"1.1", b"1.0")
_LENGTH, _ENCODING, _HOST = b"content-length", b"transfer-encoding", b"host"
_TOKENS = (b"connection", b"upgrade")
# What a header costs beside its name and value: ": " and CRLF.
_LINE_BYTES = 4


class Requests(h11.Connection):
    """An h11 connection whose requests are whole and within the limits, or RemoteProtocolError with the status."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # h11 counts request line and headers as one.
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.request_line_bytes + limits.header_bytes)

    def receive_data(self, data: bytes) -> None:
        if data.startswith(b"\r\n") and self.their_state is h11.IDLE and not self.trailing_data[0]:
            # RFC 9112, 2.2: an empty line before a request is ignored.
            data = data[2:]
        if data:
            super().receive_data(data)

    def next_event(self) -> Any:
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # Its text repeats what the client sent, and h11 has no status for a request line that is too long.
            status = error.error_status_hint
            if status == 431 and b"\n" not in self.trailing_data[0][: self._limits.request_line_bytes]:
                status = 414
            raise _refusal(status) from None
        if isinstance(event, h11.Request):
            return self._checked(event)
        return event

    def _checked(self, request: h11.Request) -> h11.Request:
        if request.http_version not in _VERSIONS:
            # Also the preface of HTTP/2 (RFC 9113, 3.4).
            raise _refusal(400)
        if len(request.method) + len(request.target) > self._limits.request_line_bytes:
            raise _refusal(414)
        names, size = [], 0
        for name, value in request.headers:
            names.append(name)
            size += len(name) + len(value) + _LINE_BYTES
            if not value.isascii() and (name in _TOKENS or name.startswith(b"sec-websocket-")):
                # Hypercorn would fail where it decodes them.
                raise _refusal(400)
        if size > self._limits.header_bytes or len(names) > self._limits.header_count:
            raise _refusal(431)
        if _ENCODING in names and (_LENGTH in names or request.http_version == b"1.0"):
            # RFC 9112, 6.1: what comes after could be read as a second request by one and as a body by another.
            raise _refusal(400)
        target = request.target
        if target.startswith(b"/"):
            return request
        if target == b"*" and request.method == b"OPTIONS":
            return request
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or request.method == b"CONNECT":
            raise _refusal(400)
        return _with_target(request, host=absolute[1], path=absolute[2] or b"/")


def _with_target(request: h11.Request, *, host: bytes, path: bytes) -> h11.Request:
    """RFC 9112, 3.2.2: the host of an absolute target is the request's, and replaces the one in Host."""
    others = [(name, value) for name, value in request.headers if name != _HOST]
    path = path if path.startswith(b"/") else b"/" + path
    headers = [(_HOST, host), *others]
    try:
        return h11.Request(method=request.method, target=path, headers=headers, http_version=request.http_version)
    except h11.LocalProtocolError:
        raise _refusal(400) from None


def _refusal(status: int) -> h11.RemoteProtocolError:
    # h11's 501, for a transfer coding, is 400: no client can make the server seem at fault.
    return h11.RemoteProtocolError("refused", error_status_hint=status if status < 500 else 400)
