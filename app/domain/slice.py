"""What a slice hands over: the factory, the migrations, the worker and the demo data take it from there."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from quart import Blueprint

from app.db.base import Base
from app.kit.events.handler import EventHandler
from app.kit.tasks.schedule import Entry
from app.kit.tasks.task import Task
from app.resources import Resources


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

    tables      the models that its migrations make
    tasks       what the worker runs, and `schedule`: when the recurring ones are due
    handlers    what the subscriber calls with events
    seed        adds the demo data that belongs to these demo accounts
    """

    blueprint: Blueprint
    tables: tuple[type[Base], ...] = ()
    tasks: tuple[Task[Any], ...] = ()
    schedule: tuple[Entry, ...] = ()
    handlers: tuple[EventHandler, ...] = ()
    seed: Callable[[Resources, Sequence[DemoUser]], Awaitable[None]] = _no_demo_data
