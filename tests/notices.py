"""A slice of the tests' own, with each thing a route can have: what the general tests ask of a service with slices."""

from dataclasses import dataclass

from quart import Blueprint, jsonify, session
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request
from sqlalchemy import func, select

from app.domain.fields import Body, Name, Page
from app.domain.slice import Slice
from app.domain.users.models import User
from app.domain.users.service import require_account
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources
from app.web.caching.cached_view import cached_view
from app.web.context import resources
from app.web.identity import auth

blueprint = Blueprint("notices", __name__, url_prefix="/api/v1")
PATH = "/api/v1/notices"
NOTICE = {"text": "The hall is closed on Monday."}


class Notice(Body):
    text: Name


@dataclass(frozen=True, slots=True)
class NoticeBoard:
    """`readers`: how many accounts the database has."""

    page: int
    readers: int


@dataclass(frozen=True, slots=True)
class Mine:
    user_id: int


@dataclass(frozen=True, slots=True)
class Draft:
    text: str


@task(timeout_seconds=10)
async def pin_notice(context: TaskContext, text: str) -> None:
    """Asks the database, and publishes `notice_pinned`."""
    found: Resources = context.resources
    async with found.database.write() as writing:
        readers = await writing.scalar(select(func.count()).select_from(User))
        found.outbox.event(writing, "broadcast", "notice_pinned", {"text": text, "readers": readers})


@blueprint.get("/notices")
@cached_view(60, tags="notices", query=("page", "per_page"), public=True)
@tag(["notices"])
@validate_querystring(Page)
@document_response(NoticeBoard)
async def list_notices(query_args: Page) -> ResponseReturnValue:
    """Public and cached; it reads the database."""
    async with resources().database.read(primary=True) as reading:
        readers = await reading.scalar(select(func.count()).select_from(User))
    return jsonify(NoticeBoard(query_args.page, readers or 0))


@blueprint.get("/notices/mine")
@auth.require_auth()
@cached_view(60)
@tag(["notices"])
@document_response(Mine)
async def mine() -> ResponseReturnValue:
    """Cached for each principal."""
    return jsonify(Mine(auth.current_principal().user_id))


@blueprint.get("/notices/draft")
@tag(["notices"])
@document_response(Draft)
async def get_draft() -> ResponseReturnValue:
    """Kept in the session of the browser."""
    return jsonify(Draft(session.get("draft", "")))


@blueprint.put("/notices/draft")
@tag(["notices"])
@validate_request(Notice)
@document_response(Draft)
async def put_draft(data: Notice) -> ResponseReturnValue:
    """Changes the session of the browser."""
    session["draft"] = data.text
    return jsonify(Draft(data.text))


@blueprint.get("/users/<int:user_id>/notices")
@cached_view(60, tags=lambda user_id: f"notices:{user_id}", public=True)
@tag(["notices"])
@document_response(Mine)
async def of_user(user_id: int) -> ResponseReturnValue:
    """Public and cached for each user; 404 without one."""
    account = await require_account(resources(), user_id)
    return jsonify(Mine(account.id))


@blueprint.post("/notices")
@auth.require_auth("api_key", "session", "cookie")
@tag(["notices"])
@validate_request(Notice)
@document_response(Mine, 201)
async def post_notice(data: Notice) -> ResponseReturnValue:
    """An event, a task and an invalidation, by the outbox."""
    found = resources()
    async with found.database.write() as writing:
        found.outbox.event(writing, "broadcast", "notice_posted", {"text": data.text})
        found.outbox.task(writing, pin_notice, data.text)
        found.outbox.invalidate(writing, "notices")
    return jsonify(Mine(auth.current_principal().user_id)), 201


SLICE = Slice(blueprint=blueprint, tasks=(pin_notice,))
