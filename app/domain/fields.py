"""Field types that the slices' requests share. A database can store every value that they accept."""

import unicodedata
from typing import Annotated, Any, Self

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)

from app.errors import MOST_LISTED, Invalid
from app.web.number import PLAIN_DIGITS
from app.web.problems import field_errors

MOST_PER_PAGE = 100
LAST_PAGE = 1_000_000
LONGEST_EMAIL = 320
# Letters and symbols without a glyph: the fillers of Hangul, the blank pattern of Braille, the empty note.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
# Control characters, and the separators of lines and of paragraphs.
_CONTROLS = frozenset({"Cc", "Zl", "Zp"})
# Embeddings, overrides and isolates (UAX #9, 2): they also reorder the text that stands after the name. The marks of
# direction (U+200E, U+200F, U+061C) do not, and belong to the spelling of some scripts.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Body(BaseModel):
    """A JSON object without unknown fields. Errors do not repeat the input, which may be a password."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_many_fields(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Only the first unknown fields are validated: an error for each of a hundred thousand takes a second."""
        known = cls.model_fields
        if not isinstance(data, dict) or len(data) <= len(known) + MOST_LISTED:
            return handler(data)
        unknown = [name for name in data if name not in known]
        kept = {name: value for name, value in data.items() if name in known}
        try:
            handler(kept | dict.fromkeys(unknown[:MOST_LISTED]))
        except ValidationError as error:
            raise Invalid(field_errors(error), more=len(unknown) - MOST_LISTED) from None
        raise AssertionError("unknown fields are forbidden")


class Page(BaseModel):
    """The query of a paged list. A page past the end is empty."""

    page: Annotated[int, Field(ge=1, le=LAST_PAGE), PLAIN_DIGITS] = 1
    per_page: Annotated[int, Field(ge=1, le=MOST_PER_PAGE), PLAIN_DIGITS] = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


def _visible(text: str) -> str:
    """A name is one line that can be seen: characters that only shape or hide others are no name."""
    if any(unicodedata.category(each) in _CONTROLS or each in _REORDERING for each in text):
        raise ValueError("must not contain control characters, line breaks or overrides of the direction of text")
    if not any(unicodedata.category(each)[0] in "LNPS" and each not in _BLANK for each in text):
        raise ValueError("must contain a visible character")
    return text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")  # PostgreSQL's texts cannot
    return text


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def normalize_email(text: str) -> str:
    """One form for each address: RFC 5321 as email-validator knows it, all in lower case. ValueError for others.

    The part before the @ may depend on case by the letter of the standard; no provider lets two people differ by it.
    """
    if len(text) > LONGEST_EMAIL:
        # Checked first: normalizing takes time that grows with the square of the length.
        raise ValueError(f"must have at most {LONGEST_EMAIL} characters")
    try:
        return validate_email(text, check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise ValueError("must be an email address") from error


WITHOUT_NUL = AfterValidator(_without_nul)
VISIBLE = AfterValidator(_visible)
# JSON has one type of numbers: 4.0 is an integer too (JSON Schema, core, 4.2.3). Other types are not converted.
WHOLE = BeforeValidator(_whole)
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), VISIBLE]
Email = Annotated[str, StringConstraints(max_length=LONGEST_EMAIL), WITHOUT_NUL, AfterValidator(normalize_email)]
