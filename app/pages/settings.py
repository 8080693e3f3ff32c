"""The page of one's own account: name, picture, password, devices and API keys. It works without JavaScript."""

from dataclasses import dataclass
from typing import Any

from quart import Blueprint, Response, flash, redirect, request
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.domain.users import api_keys, avatars, passwords, service
from app.domain.users.routes import API_KEYS_LIMIT
from app.domain.users.schemas import AccountChange, NewApiKey, PasswordChange
from app.errors import AppError, NotFound
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, FormField, PageForm, show_form, show_problems, typed, validated
from app.web.html.upload import uploaded_file
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal

SETTINGS = "/settings"
PROFILE = PageForm(
    "Profile",
    "Save",
    (FormField("name", "Name", autocomplete="name"), FormField("email", "Email address", "email", "email")),
)
PICTURE = PageForm(
    "Picture", "Upload", (FormField("image", "A PNG, JPEG, GIF or WebP image", "file", hint="up to 1 MB"),)
)
PASSWORD = PageForm(
    "Password",
    "Change the password",
    (
        FormField("current", "Current password", "password", "current-password"),
        FormField("new", "New password", "password", "new-password", hint="8 characters or more"),
    ),
)
KEY = PageForm("API keys", "Make a key", (FormField("key", "What the new key is for"),))
FORMS = {
    f"{SETTINGS}/profile": PROFILE,
    f"{SETTINGS}/picture": PICTURE,
    f"{SETTINGS}/password": PASSWORD,
    f"{SETTINGS}/keys": KEY,
}

blueprint = Blueprint("settings", __name__, template_folder="templates", url_prefix=SETTINGS)
auth.require_auth("cookie")(blueprint)


@dataclass(frozen=True, slots=True)
class Shown:
    """The form that was sent, if one was, and what was wrong with it."""

    form: PageForm = PROFILE
    problem: AppError | None = None
    new_key: str = ""


async def _show(shown: Shown) -> Response:
    principal, found = auth.current_principal(), resources()
    account = await service.require_account(found, principal.user_id)
    values: dict[str, str] = {"name": account.name, "email": account.email}
    if shown.problem:
        values |= await typed(shown.form)
    context: dict[str, Any] = {
        "account": account,
        "forms": {"profile": PROFILE, "picture": PICTURE, "password": PASSWORD, "keys": KEY},
        "devices": await found.sessions.list(principal.user_id),
        "current": auth.current_session().public_id,
        "keys": await api_keys.list_api_keys(found, principal),
        "new_key": shown.new_key,
    }
    return await show_form(shown.form, values, problem=shown.problem, template="settings.html", **context)


async def _show_problem(problem: AppError) -> Response:
    return await _show(Shown(FORMS.get(request.path, PROFILE), problem))


show_problems(blueprint, _show_problem, keeps=(PROFILE, KEY))


async def _done(message: str) -> ResponseReturnValue:
    await flash(message)
    return redirect(SETTINGS, SEE_OTHER)


@blueprint.get("")
@hide
async def settings_page() -> Response:
    return await _show(Shown())


@blueprint.post("/profile")
@hide
@rate_limit("30/minute", key=by_principal, scope="profile")
async def change_profile() -> ResponseReturnValue:
    form = await request.form
    data = validated(AccountChange, {name: form.get(name, "") for name in ("name", "email")})
    principal = auth.current_principal()
    await service.change_account(resources(), principal, principal.user_id, name=data.name, email=data.email)
    return await _done("Your profile is saved.")


@blueprint.post("/picture")
@hide
@rate_limit("20/hour", key=by_principal)
async def upload_picture() -> ResponseReturnValue:
    principal = auth.current_principal()
    await avatars.put_avatar(resources(), principal, principal.user_id, await uploaded_file("image"))
    return await _done("Your picture is on its way: it is cropped and shown in a moment.")


@blueprint.post("/picture/delete")
@hide
async def delete_picture() -> ResponseReturnValue:
    principal = auth.current_principal()
    await avatars.delete_avatar(resources(), principal, principal.user_id)
    return await _done("Your picture is deleted.")


@blueprint.post("/password")
@hide
@rate_limit("5/minute", key=by_principal, counts="reserved", on_error="closed", sensitive=True)
async def change_password() -> ResponseReturnValue:
    form = await request.form
    data = validated(PasswordChange, {name: form.get(name, "") for name in ("current", "new")})
    keep = auth.current_session().public_id
    await passwords.change_password(
        resources(), auth.current_principal(), current=data.current, new=data.new, keep=keep
    )
    await auth.rotate_session()
    return await _done("Your password is changed, and your other devices are signed out.")


@blueprint.post("/devices/<handle>/end")
@hide
async def end_device(handle: str) -> ResponseReturnValue:
    if handle == auth.current_session().public_id:
        await auth.sign_out()
        return redirect("/login", SEE_OTHER)
    if not await resources().sessions.end(auth.current_principal().user_id, handle):
        raise NotFound("This device was signed out already.")
    return await _done("The device is signed out.")


@blueprint.post("/devices/end-others")
@hide
async def end_other_devices() -> ResponseReturnValue:
    keep = auth.current_session().public_id
    ended = await resources().sessions.end_all(auth.current_principal().user_id, keep=keep)
    return await _done(f"Signed out: {ended} other device{'' if ended == 1 else 's'}.")


@blueprint.post("/keys")
@hide
@rate_limit(API_KEYS_LIMIT, key=by_principal)
async def make_key() -> ResponseReturnValue:
    """The answer shows the key, and no redirect follows: it is stored nowhere."""
    form = await request.form
    try:
        data = validated(NewApiKey, {"name": form.get("key", "")})
    except AppError as problem:
        problem.extra["errors"] = [{**each, "loc": ["key"]} for each in problem.extra["errors"]]
        raise
    _, key = await api_keys.create_api_key(resources(), auth.current_principal(), name=data.name)
    return await _show(Shown(KEY, new_key=key))


@blueprint.post("/keys/<int:key_id>/revoke")
@hide
async def revoke_key(key_id: int) -> ResponseReturnValue:
    await api_keys.delete_api_key(resources(), auth.current_principal(), key_id)
    return await _done("The key is revoked.")
