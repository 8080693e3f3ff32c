"""HTTP of accounts: users, profile, API keys."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_request

from app.domain.users import api_keys, service, sign_in_routes
from app.domain.users.schemas import (
    Account,
    AccountChange,
    ApiKeyCreated,
    ApiKeyList,
    ApiKeyShown,
    Deleted,
    Identified,
    NewApiKey,
    PrivateUser,
    Profile,
    PublicUser,
    Registration,
)
from app.principal import Principal
from app.web.context import resources
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.links import link_to

blueprint = Blueprint("users", __name__, url_prefix="/api/v1")
blueprint.register_blueprint(sign_in_routes.blueprint)


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
@auth.require_auth()
@tag(["users"])
@validate_request(AccountChange)
@document_response(PrivateUser)
async def change_user(user_id: int, data: AccountChange) -> Response:
    """Change one's name or address."""
    principal = auth.current_principal()
    account = await service.change_account(resources(), principal, user_id, name=data.name, email=data.email)
    return _shown(account, to=principal)


@blueprint.delete("/users/<int:user_id>")
@auth.require_auth("session", "cookie")
@tag(["users"])
@document_response(Deleted)
async def delete_user(user_id: int) -> Response:
    """Delete one's account: its sessions and API keys end."""
    await service.delete_account(resources(), auth.current_principal(), user_id)
    return jsonify(Deleted())


@blueprint.get("/profile")
@auth.require_auth()
@tag(["users"])
@document_response(Profile)
async def get_profile() -> Response:
    """The current user."""
    account = await service.require_account(resources(), auth.current_principal().user_id)
    return jsonify(Profile(account.id, account.email, account.name, account.roles))


@blueprint.post("/api-keys")
@auth.require_auth("session", "cookie")
@tag(["api-keys"])
@validate_request(NewApiKey)
@document_response(ApiKeyCreated, 201)
async def create_api_key(data: NewApiKey) -> ResponseReturnValue:
    """Make an API key. Only this response shows it."""
    row, key = await api_keys.create_api_key(resources(), auth.current_principal(), name=data.name)
    return jsonify(ApiKeyCreated(row.id, row.name, key)), 201


@blueprint.get("/api-keys")
@auth.require_auth("session", "cookie")
@tag(["api-keys"])
@document_response(ApiKeyList)
async def list_api_keys() -> Response:
    """One's API keys, without the keys themselves."""
    found = await api_keys.list_api_keys(resources(), auth.current_principal())
    return jsonify(ApiKeyList([ApiKeyShown(row.id, row.name, row.created_at) for row in found]))


@blueprint.delete("/api-keys/<int:key_id>")
@auth.require_auth("session", "cookie")
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
