"""The pages for signing in and out, registering, and a new password. They work without JavaScript."""

from contextlib import suppress

from quart import Blueprint, Response, current_app, flash, redirect, render_template, request
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.domain.seed import ACCOUNTS
from app.domain.users import passwords, service
from app.domain.users.login_limit import limit_logins, limit_resets
from app.domain.users.schemas import Login, PasswordReset, Registration, ResetRequest
from app.domain.users.sign_in import sign_in_browser, sign_in_new_user
from app.domain.users.tasks import RESET_PATH
from app.errors import AppError, Unauthorized
from app.web.context import resources
from app.web.html.forms import (
    SEE_OTHER,
    FormField,
    PageForm,
    safe_target,
    show_form,
    show_problems,
    typed,
    validated,
    where_from,
)
from app.web.identity import auth
from app.web.limits.declare import exempt, rate_limit

REASON = "a form without data, the same for everyone; it must also open while Redis is down"

EMAIL = FormField("email", "Email address", "email", "username")
NEW_PASSWORD = FormField("password", "New password", "password", "new-password", hint="8 characters or more")
LOGIN = PageForm(
    "Sign in",
    "Sign in",
    (
        EMAIL,
        FormField("password", "Password", "password", "current-password"),
        FormField("remember", "Stay signed in on this device", "checkbox", required=False),
    ),
    (("/register", "Make an account"), ("/password-reset", "I have forgotten my password")),
    ("next",),
)
LOGOUT = PageForm("Sign out", "Sign out")
REGISTER = PageForm(
    "Make an account",
    "Register",
    (FormField("name", "Name", autocomplete="name"), EMAIL, NEW_PASSWORD),
    (("/login", "I have an account"),),
    ("next",),
)
RESET = PageForm("A new password", "Send me a link", (EMAIL,), (("/login", "Back"),))
CONFIRM = PageForm(
    "A new password", "Set the password", (NEW_PASSWORD,), (("/password-reset", "Send me another link"),), ("token",)
)
FORMS = {
    "/login": LOGIN,
    "/logout": LOGOUT,
    "/register": REGISTER,
    "/password-reset": RESET,
    RESET_PATH: CONFIRM,
}

blueprint = Blueprint("accounts", __name__, template_folder="templates")


async def show_problem(problem: AppError) -> Response:
    """The form again, with what was wrong and what was typed, passwords excepted."""
    form = FORMS[request.path]
    values = await typed(form)
    return await _show(form, values | {"next": safe_target(values.get("next", ""))}, problem)


show_problems(blueprint, show_problem, answers_refusals=True)


async def _show(form: PageForm, values: dict[str, str], problem: AppError | None = None) -> Response:
    is_first_look = form is LOGIN and current_app.config.get("QUARTET_DEVELOPMENT")
    demo_accounts = [email for email, *_ in ACCOUNTS] if is_first_look else []
    return await show_form(form, values, problem=problem, demo_accounts=demo_accounts)


@blueprint.get("/login")
@hide
@exempt(REASON)
async def login_page() -> Response:
    return await _show(LOGIN, {"next": where_from()})


@blueprint.post("/login")
@hide
@limit_logins
async def login() -> ResponseReturnValue:
    form = await request.form
    data = validated(Login, {name: form.get(name, "") for name in ("email", "password")})
    await sign_in_browser(email=data.email, password=data.password, remember="remember" in form)
    return redirect(safe_target(form.get("next", "")), SEE_OTHER)


@blueprint.get("/logout")
@hide
@exempt(REASON)
async def logout_page() -> Response:
    return await _show(LOGOUT, {})


@blueprint.post("/logout")
@hide
async def logout() -> ResponseReturnValue:
    """By POST alone: a link, or an image on another site, cannot sign a user out."""
    # Unauthorized alone is passed over. While Redis is down the page does not say that the session has ended.
    with suppress(Unauthorized):
        await auth.sign_out()
    return redirect("/login", SEE_OTHER)


@blueprint.get("/register")
@hide
@exempt(REASON)
async def register_page() -> Response:
    return await _show(REGISTER, {"next": where_from()})


@blueprint.post("/register")
@hide
@rate_limit("30/minute", on_error="closed")
async def register() -> ResponseReturnValue:
    form = await request.form
    data = validated(Registration, {name: form.get(name, "") for name in ("email", "name", "password")})
    user = await service.register_user(resources(), email=data.email, name=data.name, password=data.password)
    await sign_in_new_user(user)
    return redirect(safe_target(form.get("next", "")), SEE_OTHER)


@blueprint.get("/password-reset")
@hide
@exempt(REASON)
async def reset_page() -> Response:
    return await _show(RESET, {})


@blueprint.post("/password-reset")
@hide
@limit_resets
async def reset() -> str:
    form = await request.form
    data = validated(ResetRequest, {"email": form.get("email", "")})
    await passwords.request_reset(resources(), email=data.email)
    return await render_template("sent.html", title=RESET.title)


@blueprint.get(RESET_PATH)
@hide
@exempt(REASON)
async def confirm_page() -> Response:
    """The page that the mail links to."""
    return await _show(CONFIRM, {"token": request.args.get("token", "")})


@blueprint.post(RESET_PATH)
@hide
@rate_limit("10/minute", on_error="closed", sensitive=True)
async def confirm() -> ResponseReturnValue:
    form = await request.form
    data = validated(PasswordReset, {name: form.get(name, "") for name in ("token", "password")})
    await passwords.reset_password(resources(), token=data.token, password=data.password)
    await flash("Your password is changed. Sign in with the new one.")
    return redirect("/login", SEE_OTHER)
