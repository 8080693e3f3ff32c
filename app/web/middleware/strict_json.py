"""JSON as RFC 8259 has it: no NaN, no lone surrogates, no nesting that exhausts the stack."""

from typing import Any

import msgspec
from quart import Request
from quart.json.provider import DefaultJSONProvider

from app.errors import BadRequest


class StrictJSONProvider(DefaultJSONProvider):
    """Reads by msgspec; every malformed text is a ValueError, which the request turns into 400."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return msgspec.json.decode(s)
        except (RecursionError, UnicodeError) as error:
            raise ValueError("not JSON that this server reads") from error

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        encoded = msgspec.json.encode(obj, enc_hook=self.default)
        return (msgspec.json.format(encoded, indent=2) if kwargs.get("indent") else encoded).decode()


class StrictRequest(Request):
    """Answers a body that is not UTF-8 as any other malformed JSON; Quart's own would let the error out."""

    def on_json_loading_failed(self, error: Exception | None = None) -> Any:
        raise BadRequest("The body is not JSON (RFC 8259).")

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        try:
            return await super().get_json(force=force, silent=silent, cache=cache)
        except UnicodeDecodeError as error:
            return self.on_json_loading_failed(error)
