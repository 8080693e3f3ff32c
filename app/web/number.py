"""Numbers in a query: each has one spelling."""

import re

from pydantic import BeforeValidator

_PLAIN_NUMBER = re.compile("0|[1-9][0-9]{0,18}")


def _in_plain_digits(value: object) -> object:
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value):
        raise ValueError("must be a number in plain digits")
    return value


# Without a sign, leading zeros, white space or a fraction; other spellings do not validate (422). After the bounds in
# Annotated: those that come after it are not in the document of the API.
PLAIN_DIGITS = BeforeValidator(_in_plain_digits)
