"""Authentication and authorization: each kind of credential becomes a Principal; a route names those it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quart import Quart, current_app, g
from redis.exceptions import RedisError

from app.errors import AppError, BadRequest, Forbidden, Unauthorized, Unavailable
from app.kit.client.errors import record_failure
from app.kit.sessions.record import SessionRecord
from app.principal import CREDENTIALS, Credential, Principal, current_user_id
from app.web.context import CREDENTIAL_HEADERS, connection, exchange, resources
from app.web.declarations import Bearer, DeclarationError, attach, declared
from app.web.identity.browser_session import current_browser_session

LOOKUPS = "quartet_lookups"


class Lookups(Protocol):
    """What authentication asks the domain. An AppError raised here answers the views that need a principal."""

    async def user_roles(self, user_id: int) -> frozenset[str] | None:
        """None when there is no such user."""

    async def api_key_owner(self, key: str) -> tuple[int, frozenset[str]] | None:
        """The id and the roles of the key's user; None for an invalid key. `key` is what the client sent."""


@dataclass(slots=True)
class Identity:
    """The result of checking a request's credentials. `problem` is raised where the principal is needed."""

    principal: Principal | None = None
    session: SessionRecord | None = None
    problem: AppError | None = None
    by_header: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a route: principals with one of the credentials and, where roles are named, one of the roles."""

    credentials: frozenset[Credential] = frozenset(CREDENTIALS)
    roles: frozenset[str] = frozenset()


def register(app: Quart, lookups: Lookups) -> None:
    app.extensions[LOOKUPS] = lookups


def require_auth(*credentials: Credential) -> Callable[[Bearer], Bearer]:
    """Restrict a route, or those of a class, a blueprint or the app, to principals, by one of these credentials (none
    named: any). Of several rules each holds; without one no principal is needed."""
    if not set(credentials) <= set(CREDENTIALS):
        raise ValueError(f"a credential is one of {', '.join(CREDENTIALS)}, not {credentials!r}")
    return _restriction(Access(frozenset(credentials or CREDENTIALS)), decorator="@require_auth")


def require_role(*roles: str) -> Callable[[Bearer], Bearer]:
    """Restrict a route, or those of a class, a blueprint or the app, to principals with one of these roles; beside
    require_auth() both count."""
    if not roles or not all(isinstance(role, str) and role for role in roles):
        raise TypeError(
            f"require_role() needs a role or several, by name, not {roles!r}; require_auth() takes any principal"
        )
    return _restriction(Access(roles=frozenset(roles)), decorator="@require_role")


def _restriction(access: Access, *, decorator: str) -> Callable[[Bearer], Bearer]:
    def decorate(bearer: Bearer) -> Bearer:
        earlier = declared(bearer, Access)
        if access.roles and any(each.roles for each in earlier):
            raise DeclarationError(f"{bearer!r} has two require_role(): name all roles in one")
        if not frozenset.intersection(access.credentials, *(each.credentials for each in earlier)):
            raise DeclarationError(f"{bearer!r} takes no credential")
        return attach(bearer, access, decorator=decorator)

    return decorate


async def identify() -> Identity:
    """Check the credentials, and keep the result in `g`. It never refuses, so that limits are checked first."""
    given = exchange().credentials()
    try:
        identity = await (_from_headers(given) if given else _from_cookie())
    except AppError as problem:
        identity = Identity(problem=problem)
    except RedisError as error:
        # Fails closed: a view that needs the principal answers 503.
        record_failure(error, block="sessions", telemetry=resources().telemetry)
        identity = Identity(problem=Unavailable("The credentials cannot be checked now."))
    identity.by_header = bool(given)
    g.identity = identity
    exchange().principal_id = identity.principal.user_id if identity.principal else None
    current_user_id.set(identity.principal.user_id if identity.principal else None)
    return identity


def authorize(rules: Sequence[Access]) -> None:
    """Raise unless the principal satisfies each rule. Two credentials in one request are refused by every view."""
    identity = _identity()
    if isinstance(identity.problem, BadRequest):
        raise identity.problem
    for access in rules:
        principal = current_principal()
        if principal.credential not in access.credentials:
            raise Forbidden(f"This does not take the credential: {principal.credential}.")
        if access.roles and not principal.roles & access.roles:
            raise Forbidden("This needs a role that you do not have.")


def current_principal() -> Principal:
    """Unauthorized: there is none. Unavailable: the credentials could not be checked."""
    _depend_on_cookie()
    identity = _identity()
    if identity.problem is not None:
        raise identity.problem
    if identity.principal is None:
        raise Unauthorized("Sign in, or send a session or an API key.")
    return identity.principal


def current_principal_or_none() -> Principal | None:
    """None for visitors, and for a browser while its session cannot be read. A bad header credential raises."""
    _depend_on_cookie()
    identity = _identity()
    if identity.problem is not None and identity.by_header:
        raise identity.problem
    return identity.principal


def current_session() -> SessionRecord:
    """The session of the principal, from the cookie or the header. Forbidden: it has an API key."""
    current_principal()
    record = _identity().session
    if record is None:
        raise Forbidden("This needs a session.")
    return record


def session_metadata(ip: str) -> Mapping[str, str]:
    """What a new session records of the request that creates it."""
    return {"ip": ip, "user_agent": connection().headers.get("User-Agent", "")}


async def sign_in(user_id: int, *, ip: str, epoch: str | None = None, remember: bool = True) -> SessionRecord:
    """Make the browser's session the user's, under a new id, with what a visitor's session held.

    `epoch` is what SessionStore.epoch() said before the password was checked. Without `remember` the cookie ends with
    the browser. The principal is known from the next request on. SessionsEnded: see SessionStore.create.
    """
    browser = current_browser_session()
    if browser is None:
        raise BadRequest("This request has no browser session.")
    browser.require_cookie()
    metadata = session_metadata(ip)
    store = resources().sessions
    return await browser.sign_in(store, user_id, metadata=metadata, epoch=epoch, permanent=remember)


async def rotate_session() -> SessionRecord:
    """Give the current session a new id, as after a change of password or role.

    The browser receives it as its cookie; a client with a header must be sent the record's `id`.
    """
    record = current_session()
    if not await resources().sessions.rotate(record):
        raise Unauthorized("The session has ended.")
    return record


async def sign_out() -> None:
    """End the current session."""
    record, browser = current_session(), current_browser_session()
    if record.channel == "cookie" and browser is not None:
        browser.clear()
    else:
        await resources().sessions.delete(record.id)


async def _from_headers(given: list[tuple[str, str]]) -> Identity:
    if len(given) > 1:
        raise BadRequest(f"Send one credential: {', '.join(CREDENTIAL_HEADERS)} exclude each other.")
    [(name, value)] = given
    if name == "API-Key":
        owner = await current_lookups().api_key_owner(value)
        if owner is None:
            raise _refused()
        return Identity(Principal(owner[0], owner[1], "api_key"))
    store = resources().sessions
    record = await store.get(_bearer_token(value) if name == "Authorization" else value, channel="header")
    if record is None:
        raise _refused()
    if store.needs_touch(record):
        current_app.add_background_task(store.touch, record)
    principal = await _principal(record, "session")
    if principal is None:
        raise _refused()
    return Identity(principal, record)


async def _from_cookie() -> Identity:
    # No cookie, an expired one and an invalid one are the same: a visitor.
    browser = current_browser_session()
    if browser is None:
        return Identity()
    if browser.state == "down":
        raise Unavailable("The session cannot be read now.")
    principal = await _principal(browser.record, "cookie") if browser.record else None
    return Identity(principal, browser.record if principal else None)


async def _principal(record: SessionRecord, credential: Credential) -> Principal | None:
    """None for a visitor's session, and for one whose user is gone."""
    if record.user_id is None:
        return None
    roles = await current_lookups().user_roles(record.user_id)
    return None if roles is None else Principal(record.user_id, roles, credential)


def _bearer_token(value: str) -> str:
    """RFC 6750, 2.1; the scheme in any case (RFC 9110, 11.1)."""
    # Not Werkzeug's request.authorization: it raises ValueError for a Basic credential that is not ASCII.
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        raise _refused()
    return token.strip()


def _refused() -> Unauthorized:
    return Unauthorized(
        "The credential is not valid, or not any more.", challenge='Bearer realm="quartet", error="invalid_token"'
    )


def current_lookups() -> Lookups:
    """What the factory gave to register()."""
    found: Lookups = current_app.extensions[LOOKUPS]
    return found


def _identity() -> Identity:
    # There is none where no view was entered, as in a 404.
    found: Identity | None = g.get("identity")
    return found or Identity()


def _depend_on_cookie() -> None:
    # Without a credential in a header the answer varies with the cookie, with its absence too.
    browser = current_browser_session()
    if browser is not None:
        browser.used = True
