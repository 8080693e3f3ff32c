"""What a slice hands over: the factory, the migrations, the worker and the demo data take it from there."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quart import Blueprint

from app.db.base import Base
from app.kit.events.handler import EventHandler
from app.kit.metrics import Metric
from app.kit.tasks.schedule import Entry
from app.kit.tasks.task import Task
from app.resources import Resources
from app.web.html.layout import PageLink

# By it the application finds the slices' login hooks.
AT_LOGIN = "quartet_at_login"
# Called with the user's id and the browser's session, which the hook may change. AppError: the login fails.
LoginHook = Callable[[Resources, int, MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DemoUser:
    """A demo account that was made just now. The password is stored nowhere else."""

    id: int
    email: str
    password: str = field(repr=False)
    roles: tuple[str, ...]


async def _no_demo_data(_resources: Resources, _users: Sequence[DemoUser]) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice of the domain.

    pages       its HTML pages, and `links`: those in the navigation. One with the path / is the front page
    tables      the models that its migrations make, and `unmapped`: how the names of others begin
    tasks       what the worker runs, and `schedule`: when the recurring ones are due
    at_login    takes over what the session of a browser held before the login, after the user's session was made
    handlers    what the subscriber calls with events
    metrics     what it counts and measures by Resources.telemetry
    seed        adds the demo data that belongs to these demo accounts
    """

    blueprint: Blueprint
    pages: Blueprint | None = None
    links: tuple[PageLink, ...] = ()
    tables: tuple[type[Base], ...] = ()
    unmapped: tuple[str, ...] = ()
    tasks: tuple[Task[Any], ...] = ()
    schedule: tuple[Entry, ...] = ()
    at_login: LoginHook | None = None
    handlers: tuple[EventHandler, ...] = ()
    metrics: tuple[Metric, ...] = ()
    seed: Callable[[Resources, Sequence[DemoUser]], Awaitable[None]] = _no_demo_data
