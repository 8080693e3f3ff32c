"""The pages for writing, changing and deleting an article."""

from typing import Annotated, Any

from pydantic import BaseModel, Field
from quart import Blueprint, Response, flash, redirect, request
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.domain.articles import service
from app.domain.articles.schemas import Draft
from app.errors import AppError, Forbidden, NotFound, PreconditionFailed
from app.preconditions import only_state
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, FormField, PageForm, show_form, show_problems, typed, validated
from app.web.identity import auth
from app.web.number import PLAIN_DIGITS

FIELDS = (
    FormField("title", "Title"),
    FormField("content", "Text", "textarea", hint="Plain text. Empty lines part paragraphs."),
)
BACK = (("/", "Back to the news"),)
WRITE = PageForm("Write an article", "Publish", FIELDS, BACK)
# The version that the reader saw takes the place of the API's If-Match.
EDIT = PageForm("Change the article", "Save", FIELDS, BACK, ("version",))

blueprint = Blueprint("editing", __name__, template_folder="templates")


class Version(BaseModel):
    version: Annotated[int, Field(ge=1, le=2**31), PLAIN_DIGITS]


async def _show_problem(problem: AppError) -> Response:
    article_id = (request.view_args or {}).get("article_id")
    if article_id is None:
        return await show_form(WRITE, await typed(WRITE), problem=problem)
    if isinstance(problem, NotFound):
        # It was deleted meanwhile: what was typed can be published anew.
        return await show_form(WRITE, await typed(WRITE), problem=problem, action="/write")
    return await _show_edit(article_id, await typed(EDIT), problem)


show_problems(blueprint, _show_problem, keeps=(EDIT,))


async def _show_edit(article_id: int, values: dict[str, str], problem: AppError | None = None) -> Response:
    found = await service.get_article(resources(), article_id)
    if not service.may_write(auth.current_principal(), found.article.author_id):
        raise Forbidden("This article is not yours.")
    present = {"title": found.article.title, "content": found.article.content, "version": str(found.version)}
    context: dict[str, Any] = {"article": found.article, "version": found.version}
    if isinstance(problem, PreconditionFailed):
        # Beside what was typed stands what it would replace; saving again replaces it.
        context["present"] = found.article
        values = {**values, "version": present["version"]}
    return await show_form(
        EDIT, present | values, problem=problem, template="articles/edit.html", action=_path(article_id), **context
    )


def _path(article_id: int) -> str:
    return f"/articles/{article_id}/edit"


async def _draft() -> Draft:
    form = await request.form
    return validated(Draft, {name: form.get(name, "") for name in ("title", "content")})


async def _version() -> int:
    return validated(Version, {"version": (await request.form).get("version", "")}).version


@blueprint.get("/write")
@hide
@auth.require_auth("cookie")
async def write_page() -> Response:
    return await show_form(WRITE, {})


@blueprint.post("/write")
@hide
@auth.require_auth("cookie")
async def write() -> ResponseReturnValue:
    data = await _draft()
    created = await service.create_article(
        resources(), auth.current_principal(), title=data.title, content=data.content
    )
    await flash("Your article is published. Its summary follows in a moment.")
    return redirect(f"/articles/{created.article.id}", SEE_OTHER)


@blueprint.get("/articles/<int:article_id>/edit")
@hide
@auth.require_auth("cookie")
async def edit_page(article_id: int) -> Response:
    return await _show_edit(article_id, {})


@blueprint.post("/articles/<int:article_id>/edit")
@hide
@auth.require_auth("cookie")
async def edit(article_id: int) -> ResponseReturnValue:
    data, version = await _draft(), await _version()
    await service.change_article(
        resources(),
        auth.current_principal(),
        article_id,
        title=data.title,
        content=data.content,
        condition=only_state(str(version)),
    )
    await flash("Your changes are saved.")
    return redirect(f"/articles/{article_id}", SEE_OTHER)


@blueprint.post("/articles/<int:article_id>/delete")
@hide
@auth.require_auth("cookie")
async def delete(article_id: int) -> ResponseReturnValue:
    condition = only_state(str(await _version()))
    await service.delete_article(resources(), auth.current_principal(), article_id, condition=condition)
    await flash("The article is deleted.")
    return redirect("/", SEE_OTHER)
