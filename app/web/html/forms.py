"""Forms of pages, and how one is shown again with what was typed and what was wrong beside the field."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from quart import Blueprint, Response, g, make_response, render_template, request
from redis.exceptions import RedisError

from app.errors import AppError, Forbidden, Invalid, Unauthorized
from app.web.middleware.strict_json import StrictRequest
from app.web.problems import answer_error, field_errors, redis_failure

ModelT = TypeVar("ModelT", bound=BaseModel)
FRONT = "/"
LONGEST_TARGET = 2000
SEE_OTHER = 303  # RFC 9110, 15.4.4: the answer to a form is another page, fetched by GET
_TYPE_NAME = re.compile("(String|Input|Value) should ")
UNSHOWN_KINDS = ("password", "file")


@dataclass(frozen=True, slots=True)
class FormField:
    """`kind` and `autocomplete` are attributes of HTML's input; `kind` may also be textarea or select.

    `choices`: value and text of each option of a select.
    """

    name: str
    label: str
    kind: str = "text"
    autocomplete: str = "off"
    required: bool = True
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PageForm:
    title: str
    button: str
    fields: tuple[FormField, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Path and text of each link under the form."""
    hidden: tuple[str, ...] = ()
    """Names of what is sent along unseen, such as the token of a mail."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form with what was typed. `wrong`: a message by field; `summary`: what was wrong that no field is about."""

    values: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""


async def show_form(
    form: PageForm,
    values: Mapping[str, str],
    *,
    problem: AppError | None = None,
    template: str = "form.html",
    **context: Any,
) -> Response:
    """The page of a form. With a problem it has its status and headers, and says beside the fields what was wrong.

    Passwords are never sent back.
    """
    page = await render_template(template, form=form, filled=_filled(form, values, problem), blank=Filled(), **context)
    response: Response = await make_response(page, problem.status if problem else 200)  # type: ignore[assignment]
    response.headers.update(problem.headers if problem else {})
    return response


async def typed(form: PageForm) -> dict[str, str]:
    """What was typed into the fields of a form that was sent, to be shown again. Of a long form nothing."""
    found = await cast(StrictRequest, request).form_to_show()
    shown = [each.name for each in form.fields if each.kind not in UNSHOWN_KINDS]
    return {name: found[name] for name in (*shown, *form.hidden) if name in found}


def show_problems(
    blueprint: Blueprint,
    show: Callable[[AppError], Awaitable[Response]],
    *,
    answers_refusals: bool = False,
    keeps: Sequence[PageForm] = (),
) -> None:
    """Answer a form that was refused, at any place on its way, by `show`; errors of other requests as ever.

    `answers_refusals`: also 401 and 403. On other pages these mean that there is no page that could be shown again.
    `keeps`: forms of which the page of such an error keeps what was typed, to be sent again: where the session ended
    meanwhile, or what the form's page needs is down.
    """

    async def on_problem(problem: AppError) -> Response:
        if request.method != "POST" or (isinstance(problem, Forbidden) and not answers_refusals):
            return await answer_error(problem)
        if answers_refusals or not isinstance(problem, Unauthorized):
            # What is down for the form is down for its page.
            with suppress(AppError, RedisError):
                return await show(problem)
        await _keep(keeps)
        return await answer_error(problem)

    async def on_outage(error: RedisError) -> Response:
        return await on_problem(redis_failure(error))

    blueprint.register_error_handler(AppError, on_problem)
    blueprint.register_error_handler(RedisError, on_outage)


async def _keep(forms: Sequence[PageForm]) -> None:
    """For the page of an error: what was typed into one of these forms."""
    kept: dict[str, str] = {}
    for form in forms:
        found = await typed(form)
        if any(each.name in found for each in form.fields):
            kept |= found
    g.kept_fields = kept


def _filled(form: PageForm, values: Mapping[str, str], problem: AppError | None) -> Filled:
    if not isinstance(problem, Invalid):
        return Filled(values, {}, (problem.detail or problem.title) if problem else "")
    messages = {".".join(map(str, each["loc"])): each["msg"] for each in problem.extra["errors"]}
    wrong = {each.name: _sentence(messages.pop(each.name)) for each in form.fields if each.name in messages}
    # What has no field, such as the token of a mail.
    rest = " ".join(f"The {name} {message}." for name, message in messages.items())
    return Filled(values, wrong, rest)


def _sentence(message: str) -> str:
    # The validator names types of Python: "String should have at most 100 characters".
    said = _TYPE_NAME.sub("must ", message)
    return said[:1].upper() + said[1:]


def validated(model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """Invalid, with a message by field."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise Invalid(field_errors(error)) from None


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
