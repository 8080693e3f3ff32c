"""HTTP of accounts: users, profile, API keys."""

from quart import Blueprint, Response, jsonify, request
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_request

from app.domain.users import api_keys, avatars, service, sign_in_routes
from app.domain.users.avatar_image import MEDIA_TYPE, UPLOADED
from app.domain.users.schemas import (
    Account,
    AccountChange,
    ApiKeyCreated,
    ApiKeyList,
    ApiKeyShown,
    AvatarTaken,
    Deleted,
    Identified,
    NewApiKey,
    PrivateUser,
    Profile,
    PublicUser,
    Registration,
)
from app.principal import Principal
from app.web.answers import answers, raw_body
from app.web.context import resources
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal
from app.web.links import link_to

blueprint = Blueprint("users", __name__, url_prefix="/api/v1")
# By user and by address.
API_KEYS_LIMIT = "60/hour"
blueprint.register_blueprint(sign_in_routes.blueprint)


@blueprint.post("/users")
@answers(409)
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
@answers(409)
@auth.require_auth()
# As the registration: a 409 tells whether an address has an account.
@rate_limit("30/minute", key=by_principal)
@tag(["users"])
@validate_request(AccountChange)
@document_response(PrivateUser)
async def change_user(user_id: int, data: AccountChange) -> Response:
    """Change the user's name or address."""
    principal = auth.current_principal()
    account = await service.change_account(resources(), principal, user_id, name=data.name, email=data.email)
    return _shown(account, to=principal)


@blueprint.delete("/users/<int:user_id>")
@auth.require_auth("session", "cookie")
@tag(["users"])
@document_response(Deleted)
async def delete_user(user_id: int) -> Response:
    """Delete the account: its sessions and API keys end."""
    principal = auth.current_principal()
    await service.delete_account(resources(), principal, user_id)
    if principal.user_id == user_id:
        # The browser's cookie is deleted too.
        await auth.sign_out()
    return jsonify(Deleted())


@blueprint.put("/users/<int:user_id>/avatar")
@answers(413, 415, 422)
@raw_body(*UPLOADED)
@auth.require_auth()
@rate_limit("20/hour", key=by_principal)
@tag(["users"])
@document_response(AvatarTaken)
async def put_avatar(user_id: int) -> Response:
    """Upload the user's picture: a PNG, JPEG, GIF or WebP image as the body. A task crops and resizes it."""
    data: bytes = await request.get_data(as_text=False)  # type: ignore[assignment]  # as_text decides
    return jsonify(AvatarTaken(await avatars.put_avatar(resources(), auth.current_principal(), user_id, data)))


@blueprint.delete("/users/<int:user_id>/avatar")
@auth.require_auth()
@tag(["users"])
async def delete_avatar(user_id: int) -> ResponseReturnValue:
    """Delete the user's picture."""
    await avatars.delete_avatar(resources(), auth.current_principal(), user_id)
    return "", 204


@blueprint.get("/users/<int:user_id>/avatar/<version>")
@answers(200, content_type=MEDIA_TYPE, description="The picture.")
@answers(503)
@tag(["users"])
async def get_avatar(user_id: int, version: str) -> Response:
    """A user's picture, at the address that `avatar_url` of the user names. A new picture has a new address."""
    image = await avatars.get_image(resources(), user_id, version)
    return Response(image, content_type=MEDIA_TYPE, headers={"Cache-Control": "public, max-age=86400, immutable"})


@blueprint.get("/profile")
@auth.require_auth()
@tag(["users"])
@document_response(Profile)
async def get_profile() -> Response:
    """The current user."""
    account = await service.require_account(resources(), auth.current_principal().user_id)
    return jsonify(Profile(account.id, account.email, account.name, account.roles))


@blueprint.post("/api-keys")
@answers(409)
@auth.require_auth("session", "cookie")
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
@auth.require_auth("session", "cookie")
@tag(["api-keys"])
@document_response(ApiKeyList)
async def list_api_keys() -> Response:
    """The user's API keys, without the keys themselves."""
    found = await api_keys.list_api_keys(resources(), auth.current_principal())
    return jsonify(ApiKeyList([ApiKeyShown(row.id, row.name, row.created_at, row.last_used_at) for row in found]))


@blueprint.delete("/api-keys/<int:key_id>")
@auth.require_auth("session", "cookie")
@tag(["api-keys"])
async def delete_api_key(key_id: int) -> ResponseReturnValue:
    """Revoke an API key. It ends at once."""
    await api_keys.delete_api_key(resources(), auth.current_principal(), key_id)
    return "", 204


def _shown(account: Account, *, to: Principal | None) -> Response:
    version = account.avatar_version
    avatar_url = link_to("users.get_avatar", user_id=account.id, version=version) if version else None
    if to is not None and to.may_write(account.id):
        return jsonify(PrivateUser(account.id, account.name, avatar_url, account.created_at, account.email))
    return jsonify(PublicUser(account.id, account.name, avatar_url, account.created_at))
