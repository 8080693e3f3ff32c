"""Ends tasks for certain.

asyncio.wait_for before Python 3.12, which the Redis clients call, loses a cancellation that comes with its result.
"""

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_SECONDS = 0.1


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again and again, until all have ended, whatever they end with and whoever cancels the caller."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=AGAIN_SECONDS)
        except asyncio.CancelledError:
            interrupted = True
    # Retrieves what they raised, of which asyncio would complain otherwise.
    await asyncio.gather(*tasks, return_exceptions=True)
    if interrupted:
        raise asyncio.CancelledError


def heed_cancellation() -> None:
    """Raise the CancelledError that the running task should have had, for a task that is cancelled only once."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
