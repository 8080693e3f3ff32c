"""@answers and @raw_body: what the document of the API says of a route beyond what its other decorators say."""

from collections.abc import Callable
from dataclasses import dataclass

from app.web.declarations import View, ViewT

_ATTRIBUTE = "__answers__"
_BODY = "__raw_body__"


@dataclass(frozen=True, slots=True)
class DocumentedAnswer:
    """One answer. `content_type` None: without a body. A status of 400 and more is problem details."""

    status: int
    content_type: str | None = None
    description: str = ""
    headers: tuple[str, ...] = ()


def answers(
    *statuses: int, content_type: str | None = None, description: str = "", headers: tuple[str, ...] = ()
) -> Callable[[ViewT], ViewT]:
    """Document these statuses; those of success have a body of `content_type`. A route may have several.

    `headers`: names of openapi.HEADERS that the answer may have.

    Not needed where other declarations say it: 401 and 403, 404 of a path with an id, 422 of a validated body, 429.
    """

    def decorate(view: ViewT) -> ViewT:
        found = tuple(DocumentedAnswer(status, content_type, description, headers) for status in statuses)
        view.__dict__[_ATTRIBUTE] = (*found, *answers_of(view))
        return view

    return decorate


def answers_of(view: View) -> tuple[DocumentedAnswer, ...]:
    found: tuple[DocumentedAnswer, ...] = getattr(view, _ATTRIBUTE, ())
    return found


def raw_body(*content_types: str) -> Callable[[ViewT], ViewT]:
    """Document the body of a route that reads its bytes."""

    def decorate(view: ViewT) -> ViewT:
        view.__dict__[_BODY] = content_types
        return view

    return decorate


def raw_body_of(view: View) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(view, _BODY, ())
    return found
