"""The file of a form that has one file and nothing else. Read apart from other forms, which are small."""

from quart import request
from werkzeug.http import parse_options_header

from app.errors import Invalid

LONGEST_PART_HEAD = 2048


async def uploaded_file(name: str) -> bytes:
    """What the form's first part holds (multipart/form-data, RFC 7578). Invalid, with `name`: no file was chosen."""
    data: bytes = await request.get_data(as_text=False)  # type: ignore[assignment]  # as_text decides
    boundary = parse_options_header(request.headers.get("Content-Type", ""))[1].get("boundary", "")
    delimiter = f"--{boundary}".encode("latin-1", "replace")
    begin = data.find(b"\r\n\r\n", 0, LONGEST_PART_HEAD) + 4
    # By searching alone, in time that does not depend on what the parts are.
    end = data.find(b"\r\n" + delimiter, begin)
    if not boundary or not data.startswith(delimiter) or begin < 4 or end <= begin:
        raise Invalid([{"loc": [name], "msg": "choose a file"}])
    return data[begin:end]
