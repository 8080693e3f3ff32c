"""The forms of the accounts' pages, and how one is shown again with what was wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from quart import Response, make_response, render_template, request

from app.errors import AppError, Invalid

ModelT = TypeVar("ModelT", bound=BaseModel)
FRONT = "/"
LONGEST_TARGET = 2000


@dataclass(frozen=True, slots=True)
class FormField:
    """`kind` and `autocomplete` are attributes of HTML's input."""

    name: str
    label: str
    kind: str = "text"
    autocomplete: str = "off"
    required: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    title: str
    button: str
    fields: tuple[FormField, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Path and text of each link under the form."""


async def show_form(
    form: Form, values: Mapping[str, str], *, problem: AppError | None = None, token: str = "", target: str = ""
) -> Response:
    """The page of a form. With a problem it has its status and headers, and says in the form what was wrong.

    Passwords are never sent back.
    """
    status = problem.status if problem else 200
    text = problem.detail or problem.title if problem else ""
    wrong = {}
    if isinstance(problem, Invalid):
        messages = {".".join(map(str, each["loc"])): each["msg"] for each in problem.extra["errors"]}
        wrong = {field.name: messages.pop(field.name) for field in form.fields if field.name in messages}
        # What has no field, such as the token of a mail.
        text = (
            "; ".join(f"The {name} {message}." for name, message in messages.items()) or "Something is not right yet."
        )
    page = await render_template(
        "form.html", form=form, values=values, problem=text, wrong=wrong, token=token, target=target
    )
    response: Response = await make_response(page, status)  # type: ignore[assignment]
    response.headers.update(problem.headers if problem else {})
    return response


def validated(model: type[ModelT], values: Mapping[str, str]) -> ModelT:
    """Invalid, with a message by field."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise Invalid(
            [{"loc": list(each["loc"]), "msg": each["msg"].removeprefix("Value error, ")} for each in error.errors()]
        ) from None


def safe_target(text: str) -> str:
    """`text` if it is a path of this site, else the front page: a user is never sent to another host.

    Browsers read a backslash as a slash, and leave out tabs and line ends (URL Standard, 4.4).
    """
    is_path = text.startswith("/") and not text.startswith("//") and len(text) <= LONGEST_TARGET
    if not is_path or any(character <= " " or character in "\\\x7f" for character in text):
        return FRONT
    return text


def where_from() -> str:
    """Where a login leads: `next` of the query, or the page of this site that had the link."""
    if "next" in request.args:
        return safe_target(request.args["next"])
    try:
        referer = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return FRONT
    if referer.netloc.lower() != request.host.lower() or referer.path == request.path:
        return FRONT
    return safe_target(f"{referer.path}?{referer.query}" if referer.query else referer.path)
