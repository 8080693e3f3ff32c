"""Ends tasks for certain."""

import asyncio
from collections.abc import Collection

AGAIN_SECONDS = 0.1


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until all of them have ended, whatever they end with, and whoever cancels the caller.

    Again and again, because asyncio.wait_for before Python 3.12, which redis-py calls, forgets a cancellation that
    comes in the same moment as its result.
    """
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
