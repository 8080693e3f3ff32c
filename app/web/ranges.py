"""Responses to conditional requests and to Range requests."""

import asyncio
from typing import Any, Self, cast

from quart import Response
from quart.wrappers.response import FileBody
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable

from app.kit.aio import finished


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
            raise PreconditionFailed
        return made
