"""HTTP of signing in: login and logout, sessions, password."""

from datetime import UTC, datetime

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.users import passwords
from app.domain.users.login_limit import limit_logins, limit_resets
from app.domain.users.schemas import (
    Ended,
    Identified,
    KeepCurrent,
    LoggedIn,
    Login,
    PasswordChange,
    PasswordReset,
    ResetRequest,
    SessionList,
    SessionShown,
)
from app.domain.users.sign_in import sign_in_by_header
from app.errors import NotFound
from app.web.answers import answers
from app.web.context import resources
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal

blueprint = Blueprint("sign_in", __name__)


@blueprint.post("/login")
@limit_logins
@tag(["sessions"])
@validate_request(Login)
@document_response(LoggedIn)
async def login(data: Login) -> Response:
    """Start a session, for clients that send its id in X-Session-ID or Authorization. Sets no cookie."""
    user, record = await sign_in_by_header(email=data.email, password=data.password)
    return jsonify(LoggedIn(record.id, _moment(record.expires_at), Identified(user.id, user.name, user.email)))


@blueprint.post("/logout")
@auth.require_auth("session", "cookie")
@tag(["sessions"])
async def logout() -> ResponseReturnValue:
    """End this session."""
    await auth.sign_out()
    return "", 204


@blueprint.post("/logout-all")
@auth.require_auth("session", "cookie")
@tag(["sessions"])
@validate_querystring(KeepCurrent)
@document_response(Ended)
async def logout_all(query_args: KeepCurrent) -> Response:
    """End all of the user's sessions, or all others."""
    record = auth.current_session()
    keep = record.public_id if query_args.keep_current else None
    ended = await resources().sessions.end_all(auth.current_principal().user_id, keep=keep)
    if keep is None:
        # The browser's cookie is deleted too.
        await auth.sign_out()
    return jsonify(Ended(ended))


@blueprint.get("/sessions")
@auth.require_auth("session", "cookie")
@tag(["sessions"])
@document_response(SessionList)
async def list_sessions() -> Response:
    """The user's sessions, the last active first."""
    current = auth.current_session().public_id
    found = await resources().sessions.list(auth.current_principal().user_id)
    shown = [
        SessionShown(
            id=each.public_id,
            created_at=_moment(each.created_at),
            last_activity=_moment(each.last_activity),
            ip=each.ip,
            user_agent=each.user_agent,
            current=each.public_id == current,
        )
        for each in found
    ]
    return jsonify(SessionList(shown))


@blueprint.delete("/sessions/<handle>")
@auth.require_auth("session", "cookie")
@tag(["sessions"])
async def end_session(handle: str) -> ResponseReturnValue:
    """End one of the user's sessions."""
    if handle == auth.current_session().public_id:
        await auth.sign_out()
    elif not await resources().sessions.end(auth.current_principal().user_id, handle):
        raise NotFound("You have no such session.")
    return "", 204


@blueprint.put("/password")
@auth.require_auth("session", "cookie")
@rate_limit("5/minute", key=by_principal, counts="reserved", on_error="closed", sensitive=True)
@tag(["users"])
@validate_request(PasswordChange)
async def change_password(data: PasswordChange) -> ResponseReturnValue:
    """Change the password: other sessions end, and this one gets a new id, in X-Session-ID if it came in a header."""
    record = auth.current_session()
    await passwords.change_password(
        resources(), auth.current_principal(), current=data.current, new=data.new, keep=record.public_id
    )
    record = await auth.rotate_session()
    return "", 204, {"X-Session-ID": record.id} if record.channel == "header" else {}


@blueprint.post("/password-reset")
@answers(202, description="A mail is sent, if the address has an account.")
@limit_resets
@tag(["users"])
@validate_request(ResetRequest)
async def request_password_reset(data: ResetRequest) -> ResponseReturnValue:
    """Have a link for a new password sent by mail. The response does not tell whether the address has an account."""
    await passwords.request_reset(resources(), email=data.email)
    return "", 202


@blueprint.post("/password-reset/confirm")
@rate_limit("10/minute", on_error="closed", sensitive=True)
@tag(["users"])
@validate_request(PasswordReset)
async def reset_password(data: PasswordReset) -> ResponseReturnValue:
    """Set a new password by the token of the mail, which works once and for an hour. All sessions end."""
    await passwords.reset_password(resources(), token=data.token, password=data.password)
    return "", 204


def _moment(epoch_seconds: float) -> datetime:
    return datetime.fromtimestamp(epoch_seconds, UTC)
