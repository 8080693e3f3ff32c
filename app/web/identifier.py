"""`<int:...>` in a route: an id, which has one spelling."""

from werkzeug.routing import IntegerConverter

from app.db.database import LARGEST_ID


def _up_to(largest: int) -> str:
    """A regular expression of the decimal numbers from 0 to `largest`: ASCII digits, without leading zeros."""
    digits = str(largest)
    forms = ["0", f"[1-9][0-9]{{0,{len(digits) - 2}}}", digits]
    for place, digit in enumerate(digits):
        first = 1 if place == 0 else 0
        if int(digit) > first:
            forms.append(f"{digits[:place]}[{first}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}")
    return f"(?:{'|'.join(forms)})"


class Identifier(IntegerConverter):
    """A number that the column of an id can hold. Other numbers and other spellings are 404, by every method.

    They must not match at all: where a converter refuses what its expression matches, Werkzeug answers 405 to a
    method that the route does not have.
    """

    regex = _up_to(LARGEST_ID)
