"""The request and response bodies of accounts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from app.domain.fields import LONGEST_EMAIL, WITHOUT_NUL, Body, Email, Name
from app.domain.users.reset_token import LONGEST_TOKEN

NewPassword = Annotated[str, StringConstraints(min_length=8, max_length=1024)]
GivenPassword = Annotated[str, StringConstraints(max_length=1024)]


class Registration(Body):
    email: Email
    name: Name
    password: NewPassword


class AccountChange(Body):
    name: Name
    email: Email | None = None


class Login(Body):
    """An invalid address gets the same response as an unknown one."""

    email: Annotated[str, StringConstraints(max_length=LONGEST_EMAIL), WITHOUT_NUL]
    password: GivenPassword


class PasswordChange(Body):
    current: GivenPassword
    new: NewPassword


class ResetRequest(Body):
    email: Email


class PasswordReset(Body):
    """`token` is that of the mail."""

    token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)]
    password: NewPassword


class NewApiKey(Body):
    name: Name


class KeepCurrent(BaseModel):
    keep_current: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """A user as it is cached: without the password hash."""

    id: int
    email: str
    name: str
    avatar_version: str | None
    created_at: datetime
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a user is."""

    id: int
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class PublicUser:
    """The public fields of a user."""

    id: int
    name: str
    avatar_url: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PrivateUser(PublicUser):
    """The fields that the user and admins see."""

    email: str


@dataclass(frozen=True, slots=True)
class AvatarTaken:
    """The image was taken. The task resizes it; then `avatar_url` of the user changes."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The account was deleted."""

    deleted: bool = True


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A new session. `session_id` is its secret."""

    session_id: str
    expires_at: datetime
    user: Identified


@dataclass(frozen=True, slots=True)
class SessionShown:
    """`id` names the session; its secret cannot be derived from it."""

    id: str
    created_at: datetime
    last_activity: datetime
    ip: str
    user_agent: str
    current: bool


@dataclass(frozen=True, slots=True)
class SessionList:
    """The user's sessions."""

    sessions: list[SessionShown]


@dataclass(frozen=True, slots=True)
class Ended:
    """How many sessions were ended."""

    ended: int


@dataclass(frozen=True, slots=True)
class Profile:
    """The user of the credential that was sent."""

    user_id: int
    email: str
    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyCreated:
    """`api_key` is shown this once."""

    id: int
    name: str
    api_key: str


@dataclass(frozen=True, slots=True)
class ApiKeyShown:
    """An API key without its secret. `last_used_at` is accurate to a minute; null: never used."""

    id: int
    name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyList:
    """The user's API keys."""

    api_keys: list[ApiKeyShown]
