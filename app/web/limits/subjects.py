"""Subjects: functions that return who a limit counts, for the current request."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from app.principal import Principal
from app.web.client_address import client_network
from app.web.context import connection

# None: the limit does not apply to this request.
Subject = Callable[[Principal | None], str | None | Awaitable[str | None]]
Asked = TypeVar("Asked", bound=Callable[..., Any])

ADDRESS = "address:"
_READS_BODY = "__reads_body__"
_IS_ADDRESS = "__is_address__"


def reads_body(asked: Asked) -> Asked:
    """Mark a subject, a cost or a dynamic limit that reads the request's body.

    Its limits are checked after the others, the media type and the access rule, so that no body
    is parsed of a request that those refuse.
    """
    setattr(asked, _READS_BODY, True)
    return asked


def is_read_from_body(asked: object) -> bool:
    return getattr(asked, _READS_BODY, False) is True


def is_address(asked: object, *, visitor: bool) -> bool:
    """Whether the subject is the client's network whatever else the request holds, or, of a `visitor` without any
    credential, for that reason."""
    found = getattr(asked, _IS_ADDRESS, "")
    return found == "always" or (visitor and found == "visitor")


def by_address(_principal: Principal | None) -> str:
    """The client's IPv4 address, or its IPv6 /64 network."""
    return ADDRESS + client_network()


def by_principal(principal: Principal | None) -> str:
    """The user, whatever the credential; a visitor by address."""
    return f"user:{principal.user_id}" if principal else by_address(None)


def by_api_key(principal: Principal | None) -> str:
    """The API key, if it is valid (each made-up key would have a limit of its own); otherwise the address."""
    if principal and principal.credential == "api_key":
        return f"api-key:{connection().headers['API-Key']}"
    return by_address(None)


def by_header(name: str) -> Subject:
    """The value of a header; where it is missing, the address. Only for a header that a proxy sets."""

    def subject(_principal: Principal | None) -> str:
        value = connection().headers.get(name)
        return by_address(None) if value is None else f"header:{value}"

    subject.__name__ = f"by_{name.lower()}"
    return subject


setattr(by_address, _IS_ADDRESS, "always")
setattr(by_principal, _IS_ADDRESS, "visitor")
setattr(by_api_key, _IS_ADDRESS, "visitor")
