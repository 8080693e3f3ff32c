"""Responses to conditional requests and to Range requests."""

import asyncio
from typing import Any, Self, cast

from quart import Request, Response
from quart.wrappers.response import FileBody
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, unquote_etag

from app.errors import PreconditionFailed
from app.kit.aio import finished
from app.web.conditions import names_etag, sent_etags

# The headers of a 304 (RFC 9110, 15.4.5), and the age of the response that it confirms.
SENT_WITH_304 = frozenset({"age", "cache-control", "content-location", "etag", "expires", "vary"})


class OpenedFile(FileBody):
    """Quart's, whose file is closed also where the client leaves while a thread opens it."""

    async def __aenter__(self) -> Self:
        try:
            await finished(super().__aenter__())
        except asyncio.CancelledError as error:
            if self.file is not None:
                await finished(self.__aexit__(type(error), error, cast(Any, error.__traceback__)))
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await finished(super().__aexit__(*error))


class RangedResponse(Response):
    """Quart's, whose 416 says how long the whole is (RFC 9110, 15.5.17), and whose 412 is an error like others."""

    file_body_class = OpenedFile

    async def make_conditional(self, *arguments: Any, **named: Any) -> Response:
        try:
            made = await super().make_conditional(*arguments, **named)
        except RequestedRangeNotSatisfiable as error:
            body: Any = self.response
            length = body.size if hasattr(body, "size") else len(body.data)
            raise RequestedRangeNotSatisfiable(length=cast(int, length)) from error
        if made.status_code == 412:
            # Quart's has the content of the file.
            raise _not_held()
        return made


def conditional(request: Request, response: Response) -> Response:
    """The response, or the 304 in its place where the client has it already (RFC 9110, 13.2.2).

    PreconditionFailed where If-Match or If-Unmodified-Since names another state than that of the response.
    """
    headers = response.headers
    if response.status_code != 200 or not ("ETag" in headers or "Last-Modified" in headers):
        return response
    if _is_other(request, headers):
        raise _not_held()
    return _not_modified(headers) if _is_unchanged(request, headers) else response


def _not_held() -> PreconditionFailed:
    return PreconditionFailed("The condition of the request does not hold.")


def _is_other(request: Request, headers: Headers) -> bool:
    """If-Match compares strongly (13.1.1); If-Unmodified-Since counts without it (13.1.4)."""
    if "If-Match" in request.headers:
        sent = sent_etags(request.headers, "If-Match")
        etag, is_weak = unquote_etag(headers.get("ETag"))
        return not (sent.star_tag or (etag is not None and not is_weak and sent.is_strong(etag)))
    since, modified = request.if_unmodified_since, parse_date(headers.get("Last-Modified"))
    return since is not None and modified is not None and modified > since


def _is_unchanged(request: Request, headers: Headers) -> bool:
    if "If-None-Match" in request.headers:
        return names_etag(request.headers.getlist("If-None-Match"), headers.get("ETag"))
    since, modified = request.if_modified_since, parse_date(headers.get("Last-Modified"))
    return since is not None and modified is not None and modified <= since


def _not_modified(headers: Headers) -> Response:
    kept = Headers([(name, value) for name, value in headers if name.lower() in SENT_WITH_304])
    response = Response(status=304, headers=kept)
    # There is no body that it could be the type of.
    del response.headers["Content-Type"]
    return response
