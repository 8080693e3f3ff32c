"""Responses to conditional requests and to Range requests."""

from typing import Any, cast

from quart import Response
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable


class RangedResponse(Response):
    """Quart's, whose 416 says how long the whole is (RFC 9110, 15.5.17), and whose 412 is an error like others."""

    async def make_conditional(self, *arguments: Any, **named: Any) -> Response:
        try:
            made = await super().make_conditional(*arguments, **named)
        except RequestedRangeNotSatisfiable as error:
            body: Any = self.response
            length = body.size if hasattr(body, "size") else len(body.data)
            raise RequestedRangeNotSatisfiable(length=cast(int, length)) from error
        if made.status_code == 412:
            # Quart's has the content of the file.
            raise PreconditionFailed
        return made
