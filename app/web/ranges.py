"""Responses to Range requests."""

from typing import Any, cast

from quart import Response
from werkzeug.exceptions import RequestedRangeNotSatisfiable


class RangedResponse(Response):
    """Quart's, whose 416 says how long the whole is (RFC 9110, 15.5.17)."""

    async def make_conditional(self, *arguments: Any, **named: Any) -> Response:
        try:
            return await super().make_conditional(*arguments, **named)
        except RequestedRangeNotSatisfiable as error:
            body: Any = self.response
            length = body.size if hasattr(body, "size") else len(body.data)
            raise RequestedRangeNotSatisfiable(length=cast(int, length)) from error
