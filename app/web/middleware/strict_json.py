"""JSON of RFC 8259: no NaN, no lone surrogates, no nesting that exhausts the stack."""

from typing import Any

import msgspec
from quart import Request
from quart.json.provider import DefaultJSONProvider

from app.errors import BadRequest
from app.web.middleware.bounded_form import MOST_BYTES, MOST_FIELDS, BoundedFormParser


class StrictJSONProvider(DefaultJSONProvider):
    """Decodes and encodes by msgspec; any malformed text is a ValueError, which becomes a 400."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return msgspec.json.decode(s)
        except (RecursionError, UnicodeError) as error:
            raise ValueError("not JSON that this server accepts") from error

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        encoded = msgspec.json.encode(obj, enc_hook=self.default)
        return (msgspec.json.format(encoded, indent=2) if kwargs.get("indent") else encoded).decode()


class StrictRequest(Request):
    """A body that is not UTF-8 is malformed JSON: 400, where Quart's own class raises UnicodeDecodeError.

    A form is bounded by bytes and fields.
    """

    form_data_parser_class = BoundedFormParser
    max_form_memory_size = MOST_BYTES
    max_form_parts = MOST_FIELDS

    def on_json_loading_failed(self, error: Exception | None = None) -> Any:
        raise BadRequest("The body is not JSON (RFC 8259).")

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        try:
            return await super().get_json(force=force, silent=silent, cache=cache)
        except UnicodeDecodeError as error:
            return self.on_json_loading_failed(error)
