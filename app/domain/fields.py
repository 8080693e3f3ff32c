"""Field types that the slices' requests share. A database can store every value that they accept."""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MOST_PER_PAGE = 100
LAST_PAGE = 1_000_000
LONGEST_EMAIL = 320


class Body(BaseModel):
    """A JSON object without unknown fields. Errors do not repeat the input, which may be a password."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Page(BaseModel):
    """The query of a paged list. A page past the end is empty."""

    page: int = Field(default=1, ge=1, le=LAST_PAGE)
    per_page: int = Field(default=20, ge=1, le=MOST_PER_PAGE)

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")  # PostgreSQL's texts cannot
    return text


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
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), WITHOUT_NUL]
Email = Annotated[str, StringConstraints(max_length=LONGEST_EMAIL), WITHOUT_NUL, AfterValidator(normalize_email)]
