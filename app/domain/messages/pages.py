"""The page of messages: the two boxes, writing one, and who is online."""

import asyncio
from collections.abc import Iterable

from quart import Blueprint, Response, flash, redirect, request
from quart.typing import ResponseReturnValue
from quart_schema import hide
from redis.exceptions import RedisError

from app.db.database import LARGEST_ID
from app.domain.messages import service
from app.domain.messages.schemas import LONGEST_CONTENT, MessageQuery, NewMessage
from app.domain.users.service import account_id, get_account
from app.errors import AppError, Invalid, NotFound
from app.kit.client.errors import record_failure
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, FormField, PageForm, show_form, show_problems, typed, validated
from app.web.html.layout import PageLink
from app.web.html.live import live_page
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal

blueprint = Blueprint(
    "inbox",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static/messages",
)
LINKS = (PageLink("/inbox", "Inbox", "users"),)
MOST_ONLINE = 30
TO = FormField("to", "To", "email", "email", hint="The email address of an account")
CONTENT = FormField("content", "Message", "textarea", hint=f"At most {LONGEST_CONTENT} characters")
COMPOSE = PageForm("Write a message", "Send", (TO, CONTENT))
# To one whose address need not be known.
ANSWER = PageForm("Write a message", "Send", (CONTENT,), hidden=("recipient_id",))


async def _show(values: dict[str, str], problem: AppError | None = None) -> Response:
    principal, found = auth.current_principal(), resources()
    query = validated(MessageQuery, request.args)
    page = await service.list_messages(found, principal, query)
    online = await _online()
    people = {each.sender_id if query.box == "inbox" else each.recipient_id for each in page.messages}
    number = _number(values.get("recipient_id", ""))
    to = None if number is None else await get_account(found, number)
    return await show_form(
        ANSWER if to else COMPOSE,
        values,
        problem=problem,
        template="messages/inbox.html",
        page=page,
        box=query.box,
        is_first=query.before is None,
        to=to,
        online=[user_id for user_id in online if user_id != principal.user_id][:MOST_ONLINE],
        present=set(online),
        names=await _names({*people, *online}),
    )


async def _online() -> list[int]:
    try:
        _, users = await resources().presence.online()
    except RedisError as error:
        # Fails open: the messages are shown, and nobody as online.
        record_failure(error, block="messages", telemetry=resources().telemetry)
        return []
    return [user.user_id for user in users]


async def _names(user_ids: Iterable[int | None]) -> dict[int, str]:
    known = sorted(user_id for user_id in user_ids if user_id is not None)
    accounts = await asyncio.gather(*(get_account(resources(), user_id) for user_id in known))
    return {account.id: account.name for account in accounts if account is not None}


async def _show_problem(problem: AppError) -> Response:
    return await _show({**await typed(COMPOSE), **await typed(ANSWER)}, problem)


show_problems(blueprint, _show_problem, keeps=(COMPOSE, ANSWER))


@blueprint.get("/inbox")
@hide
@auth.require_auth("cookie")
@live_page
async def inbox() -> Response:
    """`to`: the number of the user to whom a message is written, as in a link to answer."""
    return await _show({"recipient_id": request.args.get("to", "")})


@blueprint.post("/inbox")
@hide
@auth.require_auth("cookie")
# As the registration: the answer tells whether an address has an account.
@rate_limit("30/minute", key=by_principal)
async def send() -> ResponseReturnValue:
    form = await request.form
    number = _number(form.get("recipient_id", ""))
    recipient = await _named(form.get("to", "")) if number is None else number
    data = validated(NewMessage, {"recipient_id": recipient, "content": form.get("content", "")})
    await service.send_message(resources(), auth.current_principal(), data)
    await flash("Your message is sent.")
    return redirect("/inbox?box=sent", SEE_OTHER)


def _number(text: str) -> int | None:
    """An id, as far as the text is one."""
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text[:20]) <= LARGEST_ID else None


async def _named(address: str) -> int:
    try:
        return await account_id(resources(), address)
    except NotFound:
        raise Invalid([{"loc": ["to"], "msg": "nobody here has this address"}]) from None


@blueprint.post("/inbox/<int:message_id>/read")
@hide
@auth.require_auth("cookie")
async def mark_read(message_id: int) -> ResponseReturnValue:
    await service.mark_read(resources(), auth.current_principal(), message_id)
    return redirect("/inbox", SEE_OTHER)
