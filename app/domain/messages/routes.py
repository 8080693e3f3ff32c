"""HTTP of messages."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.messages import service
from app.domain.messages.schemas import MessagePage, MessageQuery, MessageSent, NewMessage
from app.web.answers import answers
from app.web.context import resources
from app.web.idempotency import idempotent
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal
from app.web.links import links

blueprint = Blueprint("messages", __name__, url_prefix="/api/v1/messages")


@blueprint.post("")
@idempotent
@answers(409)
@auth.require_auth()
# Each may become a mail.
@rate_limit("60/minute", key=by_principal)
@tag(["messages"])
@validate_request(NewMessage)
@document_response(MessageSent, 201)
async def send_message(data: NewMessage) -> ResponseReturnValue:
    """Send a message. The recipient's streams get the event new_message; a recipient who is not online gets mail."""
    return jsonify(await service.send_message(resources(), auth.current_principal(), data)), 201


@blueprint.get("")
@answers(200, headers=("Link",))
@auth.require_auth()
@tag(["messages"])
@validate_querystring(MessageQuery)
@document_response(MessagePage)
async def list_messages(query_args: MessageQuery) -> Response:
    """One's inbox, or what one has sent, the latest first."""
    page = await service.list_messages(resources(), auth.current_principal(), query_args)
    response = jsonify(page)
    if page.next_before:
        following = {"box": query_args.box, "before": page.next_before, "limit": query_args.limit}
        response.headers.update(links("messages.list_messages", {"next": following}))
    return response


@blueprint.post("/<int:message_id>/read")
@auth.require_auth()
@tag(["messages"])
async def mark_read(message_id: int) -> ResponseReturnValue:
    """Mark a message of one's inbox as read. 404: it is not in it."""
    await service.mark_read(resources(), auth.current_principal(), message_id)
    return "", 204
