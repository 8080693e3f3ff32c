"""What each server of the events' benchmark does beside serving. Needs no package."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

TICK_MS = 2.0


async def obey(publish: Callable[[], Awaitable[object]]) -> None:
    """Do what each line of standard input says, and return at its end.

    A number: publish as many events at once. "lag": print the 99th percentile of the loop's lag in ms, since the last
    time.
    """
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: protocol, sys.stdin)
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    while line := await reader.readline():
        if line.strip() == b"lag":
            print(json.dumps(lag.percentile()), flush=True)
        else:
            await asyncio.gather(*(publish() for _ in range(int(line))))
    watching.cancel()


class Lag:
    """How late the loop runs what is due. A stall counts once for each tick that it delays, not once in all."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(TICK_MS / 1e3)
            late = (loop.time() - began) * 1e3 - TICK_MS
            self._late_ms.append(max(0.0, late))
            while (late := late - TICK_MS) > 0:
                self._late_ms.append(late)

    def percentile(self) -> float:
        late, self._late_ms = sorted(self._late_ms), []
        return late[int(len(late) * 0.99)] if late else 0.0
