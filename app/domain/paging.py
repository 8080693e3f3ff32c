"""Paging: cursors, which stay exact while rows are added, and the links between numbered pages."""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

from app.db.database import LARGEST_ID
from app.web.links import links

LONGEST_CURSOR = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})\.([1-9][0-9]{0,18})")
# The last microsecond of the year 9999.
_LAST = 253_402_300_799_999_999


def to_cursor(moment: datetime, number: int) -> str:
    """A cursor after the row with this time and id."""
    text = f"{(moment - _EPOCH) // timedelta(microseconds=1)}.{number}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[datetime, int]:
    """The time and the id. ValueError for what to_cursor() has not made."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise ValueError("must be a cursor that was answered") from error
    found = _PLACE.fullmatch(text)
    if not found or int(found[1]) > _LAST or int(found[2]) > LARGEST_ID:
        raise ValueError("must be a cursor that was answered")
    return _EPOCH + timedelta(microseconds=int(found[1])), int(found[2])


def _valid(cursor: str) -> str:
    place_of(cursor)
    return cursor


Cursor = Annotated[str, AfterValidator(_valid)]


def page_links(endpoint: str, *, page: int, pages: int, **query: object) -> Mapping[str, str]:
    """The header Link of a page among `pages`: the first, the previous, the next and the last one that there are."""
    numbers = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    there = {relation: number for relation, number in numbers.items() if 1 <= number <= pages}
    return links(endpoint, {relation: {**query, "page": number} for relation, number in there.items()})
