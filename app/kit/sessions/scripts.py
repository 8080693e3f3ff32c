"""How the store runs its scripts: again after a lost reply, and after foreign keys were removed."""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.kit.client.errors import UNAVAILABLE
from app.kit.scripts import Argument, run_script
from app.kit.sessions.codec import SessionRejected
from app.kit.telemetry import Telemetry


@contextmanager
def wrong_type_rejected() -> Iterator[None]:
    """SessionRejected where Redis answers that a key has another type."""
    try:
        yield
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        raise SessionRejected("wrong_type") from None


class SessionScripts:
    def __init__(self, redis: Redis, telemetry: Telemetry) -> None:
        self._redis = redis
        self._telemetry = telemetry

    async def run(self, script: str, *, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """The reply. Keys of another type, which another program has written, are removed and counted first."""
        try:
            return await self._run(script, keys, args)
        except ResponseError as error:
            code, _, count = str(error).partition(" ")
            if code != "FOREIGN":
                raise
            self._telemetry.count("session_rejected", int(count), reason="wrong_type")
        return await self._run(script, keys, args)

    async def counted(self, operation: str, call: Awaitable[Any]) -> Any:
        """What `call` returns. It is counted where Redis does not answer it."""
        try:
            return await call
        except UNAVAILABLE:
            self._telemetry.count("session_unreachable", operation=operation)
            raise

    @contextmanager
    def rejections_counted(self) -> Iterator[None]:
        """Ends the block where a record is rejected."""
        try:
            yield
        except SessionRejected as error:
            self._telemetry.count("session_rejected", reason=error.reason)

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        # Repeatable: each script leaves the same state when it runs twice with the same arguments.
        call = run_script(self._redis, f"sessions/{script}", keys=keys, args=args, repeatable=True)
        return await self.counted(script, call)
