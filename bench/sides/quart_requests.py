"""A route of plain Quart."""

from typing import Any

import uvloop
from quart import Quart

from bench.asgi_requests import RECORDS, print_requests

app = Quart(__name__)


@app.get("/bare")
async def bare() -> list[dict[str, Any]]:
    return RECORDS


async def main() -> None:
    async with app.test_app():
        await print_requests(app, "/bare", headers={}, status=200)


if __name__ == "__main__":
    uvloop.run(main())
