"""JSON of RFC 8259: no NaN, no lone surrogates, no nesting that exhausts the stack, no number that takes long."""

import math
from typing import Any

import msgspec
from pydantic import BaseModel
from quart import Request
from quart.json.provider import DefaultJSONProvider
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from app.errors import BadRequest
from app.web.middleware.bounded_form import MOST_BYTES, MOST_FIELDS, BoundedFormParser

# Of a form that people type; parsing so much costs no more than the rest of a request.
MOST_BYTES_TO_SHOW = 4096


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


# msgspec itself takes up to 25 µs for one number, such as 1e300: a body of 1 MB would stop the loop for seconds.
_decode = msgspec.json.Decoder(float_hook=_finite).decode


class StrictJSONProvider(DefaultJSONProvider):
    """Decodes and encodes by msgspec; any malformed text is a ValueError, which becomes a 400."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return _decode(s)
        except (RecursionError, UnicodeError) as error:
            raise ValueError("not JSON that this server accepts") from error

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        encoded = msgspec.json.encode(obj, enc_hook=self._convert)
        return (msgspec.json.format(encoded, indent=2) if kwargs.get("indent") else encoded).decode()

    def _convert(self, obj: Any) -> Any:
        return obj.model_dump() if isinstance(obj, BaseModel) else self.default(obj)


class StrictRequest(Request):
    """A body that is not UTF-8 is malformed JSON: 400, where Quart's own class raises UnicodeDecodeError.

    A form is bounded by bytes and fields.
    """

    form_data_parser_class = BoundedFormParser
    max_form_memory_size = MOST_BYTES
    max_form_parts = MOST_FIELDS

    async def form_to_show(self) -> MultiDict[str, str]:
        """What a refused form holds, to be shown again. A long one is not parsed for that: it is empty then."""
        try:
            if self._form is None:
                length = len(await self.get_data()) if self.content_length is None else self.content_length
                if length > MOST_BYTES_TO_SHOW:
                    return MultiDict()
            return await self.form
        except HTTPException:
            # Too large: what was refused already is not worth a second error.
            return MultiDict()

    def on_json_loading_failed(self, error: Exception | None = None) -> Any:
        raise BadRequest("The body is not JSON (RFC 8259).")

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        try:
            return await super().get_json(force=force, silent=silent, cache=cache)
        except UnicodeDecodeError as error:
            return self.on_json_loading_failed(error)
