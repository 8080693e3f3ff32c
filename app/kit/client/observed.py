"""Lets an observer see each command of a client, of any deployment. A client that is not observed pays nothing."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis

# Is called with a command as it is issued; returns what is to be called at its reply, or None where it is not wanted.
CommandObserver = Callable[[Sequence[Any]], Callable[[], None] | None]


def observe_commands(redis: Redis, observer: CommandObserver) -> None:
    """Show `observer` every command that is issued from now on, but those of redis-py's own pipelines."""
    execute: Callable[..., Awaitable[Any]] = redis.execute_command

    def execute_command(*args: Any, **options: Any) -> Awaitable[Any]:
        ended = observer(args)
        running = execute(*args, **options)
        return running if ended is None else _until_end(running, ended)

    # Of this client alone: its class is that of others too.
    vars(redis)["execute_command"] = execute_command


async def _until_end(running: Awaitable[Any], ended: Callable[[], None]) -> Any:
    try:
        return await running
    finally:
        ended()
