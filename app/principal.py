"""The principal: the identity that every kind of credential resolves to."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Credential = Literal["session", "api_key", "cookie"]
CREDENTIALS: tuple[Credential, ...] = ("session", "api_key", "cookie")


@dataclass(frozen=True, slots=True)
class Principal:
    """A user as authenticated by one credential: a header session, an API key or the browser's cookie."""

    user_id: int
    roles: frozenset[str]
    credential: Credential

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    def may_write(self, owner_id: int) -> bool:
        """Whether this is the owner or an admin."""
        return self.user_id == owner_id or self.is_admin


# The user of the running request, once its credentials are checked; None for visitors and outside requests.
current_user_id: ContextVar[int | None] = ContextVar("current_user_id", default=None)
