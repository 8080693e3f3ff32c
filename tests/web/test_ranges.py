"""What a response of a file leaves behind."""

import asyncio
import os
from pathlib import Path

from app.web.ranges import OpenedFile
from tests.waiting import eventually


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                return True
        except FileNotFoundError:
            # Of the listing itself.
            continue
    return False


async def test_a_file_is_closed_at_whichever_moment_its_client_leaves(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    read = []

    async def respond() -> None:
        async with OpenedFile(path) as body:
            read.extend([len(chunk) async for chunk in body])

    moments = 0
    while True:
        responding = asyncio.create_task(respond())
        for _ in range(moments):
            await asyncio.sleep(0)
        if not responding.cancel():
            break
        await asyncio.wait({responding})
        assert responding.cancelled()
        # No garbage collection closes it: the task still holds its frames.
        assert not is_open(path)
        moments = moments * 2 + 1
    await responding
    assert sum(read) >= 100_000
    await eventually(lambda: not is_open(path))
