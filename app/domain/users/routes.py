"""HTTP of accounts: users, sign-in, sessions, profile, password, API keys."""

from datetime import UTC, datetime

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.users import api_keys, service
from app.domain.users.login_limit import limit_logins
from app.domain.users.schemas import (
    Account,
    AccountChange,
    ApiKeyCreated,
    ApiKeyList,
    ApiKeyShown,
    Deleted,
    Ended,
    Identified,
    KeepCurrent,
    LoggedIn,
    Login,
    NewApiKey,
    PasswordChange,
    PrivateUser,
    Profile,
    PublicUser,
    Registration,
    SessionList,
    SessionShown,
)
from app.errors import NotFound
from app.principal import Principal
from app.web.client_address import client_address
from app.web.context import resources
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal
from app.web.links import link_to

blueprint = Blueprint("users", __name__, url_prefix="/api/v1")
# By user and by address.
API_KEYS_LIMIT = "60/hour"


@blueprint.post("/users")
@rate_limit("30/minute")
@tag(["users"])
@validate_request(Registration)
@document_response(Identified, 201)
async def register(data: Registration) -> ResponseReturnValue:
    """Make an account."""
    user = await service.register_user(resources(), email=data.email, name=data.name, password=data.password)
    location = link_to("users.get_user", user_id=user.id)
    return jsonify(Identified(user.id, user.name, user.email)), 201, {"Location": location}


@blueprint.get("/users/<int:user_id>")
@tag(["users"])
@document_response(PublicUser)
async def get_user(user_id: int) -> Response:
    """A user. The email address is shown to the user and to admins."""
    account = await service.require_account(resources(), user_id)
    return _shown(account, to=auth.current_principal_or_none())


@blueprint.put("/users/<int:user_id>")
@auth.require()
@tag(["users"])
@validate_request(AccountChange)
@document_response(PrivateUser)
async def change_user(user_id: int, data: AccountChange) -> Response:
    """Change one's name or address."""
    principal = auth.current_principal()
    account = await service.change_account(resources(), principal, user_id, name=data.name, email=data.email)
    return _shown(account, to=principal)


@blueprint.delete("/users/<int:user_id>")
@auth.require("session", "cookie")
@tag(["users"])
@document_response(Deleted)
async def delete_user(user_id: int) -> Response:
    """Delete one's account: its sessions and API keys end."""
    await service.delete_account(resources(), auth.current_principal(), user_id)
    return jsonify(Deleted())


@blueprint.post("/login")
@limit_logins
@tag(["sessions"])
@validate_request(Login)
@document_response(LoggedIn)
async def login(data: Login) -> Response:
    """Start a session, for clients that send its id in X-Session-ID or Authorization. Sets no cookie."""
    metadata = auth.session_metadata(client_address())
    user, record = await service.log_in(resources(), email=data.email, password=data.password, metadata=metadata)
    return jsonify(LoggedIn(record.id, _moment(record.expires_at), Identified(user.id, user.name, user.email)))


@blueprint.post("/logout")
@auth.require("session", "cookie")
@tag(["sessions"])
async def logout() -> ResponseReturnValue:
    """End this session."""
    await auth.sign_out()
    return "", 204


@blueprint.post("/logout-all")
@auth.require("session", "cookie")
@tag(["sessions"])
@validate_querystring(KeepCurrent)
@document_response(Ended)
async def logout_all(query_args: KeepCurrent) -> Response:
    """End all of one's sessions, or all others."""
    record = auth.current_session()
    keep = record.id if query_args.keep_current else None
    return jsonify(Ended(await resources().sessions.end_all(auth.current_principal().user_id, keep=keep)))


@blueprint.get("/sessions")
@auth.require("session", "cookie")
@tag(["sessions"])
@document_response(SessionList)
async def list_sessions() -> Response:
    """One's sessions, the last active first."""
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
@auth.require("session", "cookie")
@tag(["sessions"])
async def end_session(handle: str) -> ResponseReturnValue:
    """End one of one's sessions."""
    if not await resources().sessions.end(auth.current_principal().user_id, handle):
        raise NotFound("You have no such session.")
    return "", 204


@blueprint.get("/profile")
@auth.require()
@tag(["users"])
@document_response(Profile)
async def get_profile() -> Response:
    """The current user."""
    account = await service.require_account(resources(), auth.current_principal().user_id)
    return jsonify(Profile(account.id, account.email, account.name, account.roles))


@blueprint.put("/password")
@auth.require("session", "cookie")
@rate_limit("5/minute", key=by_principal, counts="reserved", on_error="closed", sensitive=True)
@tag(["users"])
@validate_request(PasswordChange)
async def change_password(data: PasswordChange) -> ResponseReturnValue:
    """Change the password: other sessions end, and this one gets a new id, in X-Session-ID if it came in a header."""
    record = auth.current_session()
    await service.change_password(
        resources(), auth.current_principal(), current=data.current, new=data.new, keep=record.id
    )
    record = await auth.rotate_session()
    return "", 204, {"X-Session-ID": record.id} if record.channel == "header" else {}


@blueprint.post("/api-keys")
@auth.require("session", "cookie")
@rate_limit(API_KEYS_LIMIT, key=by_principal)
@rate_limit(API_KEYS_LIMIT)
@tag(["api-keys"])
@validate_request(NewApiKey)
@document_response(ApiKeyCreated, 201)
async def create_api_key(data: NewApiKey) -> ResponseReturnValue:
    """Make an API key. Only this response shows it."""
    row, key = await api_keys.create_api_key(resources(), auth.current_principal(), name=data.name)
    return jsonify(ApiKeyCreated(row.id, row.name, key)), 201


@blueprint.get("/api-keys")
@auth.require("session", "cookie")
@tag(["api-keys"])
@document_response(ApiKeyList)
async def list_api_keys() -> Response:
    """One's API keys, without the keys themselves."""
    found = await api_keys.list_api_keys(resources(), auth.current_principal())
    return jsonify(ApiKeyList([ApiKeyShown(row.id, row.name, row.created_at) for row in found]))


@blueprint.delete("/api-keys/<int:key_id>")
@auth.require("session", "cookie")
@tag(["api-keys"])
async def delete_api_key(key_id: int) -> ResponseReturnValue:
    """Revoke an API key. It ends at once."""
    await api_keys.delete_api_key(resources(), auth.current_principal(), key_id)
    return "", 204


def _shown(account: Account, *, to: Principal | None) -> Response:
    if to is not None and to.may_write(account.id):
        private = PrivateUser(account.id, account.name, account.avatar_url, account.created_at, account.email)
        return jsonify(private)
    return jsonify(PublicUser(account.id, account.name, account.avatar_url, account.created_at))


def _moment(epoch_seconds: float) -> datetime:
    return datetime.fromtimestamp(epoch_seconds, UTC)
