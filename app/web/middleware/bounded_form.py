"""Forms of bounded size: parsing one takes time for each byte and field, in the event loop."""

from urllib.parse import parse_qsl

from quart.formparser import FormDataParser
from quart.wrappers.request import Body
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

MOST_BYTES = 64 * 1024
MOST_FIELDS = 100
Form = tuple[MultiDict[str, str], MultiDict[str, FileStorage]]


async def _parse_urlencoded(
    parser: FormDataParser, body: Body, mimetype: str, content_length: int | None, options: dict[str, str]
) -> Form:
    data = await body
    if len(data) > MOST_BYTES or data.count(b"&") >= MOST_FIELDS:
        raise RequestEntityTooLarge
    return MultiDict(parse_qsl(data.decode(), keep_blank_values=True)), MultiDict()


async def _parse_multipart(
    parser: FormDataParser, body: Body, mimetype: str, content_length: int | None, options: dict[str, str]
) -> Form:
    # The headers of its parts take the longest, and Quart does not bound them.
    data = await body
    if len(data) > MOST_BYTES:
        raise RequestEntityTooLarge
    # One that was awaited cannot be iterated over.
    whole = Body(None, None)
    whole.set_result(data)
    return await FormDataParser._parse_multipart(parser, whole, mimetype, content_length, options)


class BoundedFormParser(FormDataParser):
    """At most MOST_FIELDS fields and MOST_BYTES in a form of either encoding, files included; more is 413."""

    parse_functions = {
        "multipart/form-data": _parse_multipart,
        "application/x-www-form-urlencoded": _parse_urlencoded,
        "application/x-url-encoded": _parse_urlencoded,
    }
