"""What each side of the cache's benchmark is put through: a decorated function, called by 64 callers at once.

The function's result is what a page of a list comes to: twenty small records. `hits` ask for results that are there,
`misses` for new ones; in `tagged` calls a result hangs on two tags that are known from the arguments.
"""

import itertools
from collections.abc import Awaitable, Callable

from bench.load import Call, print_rates

CALLERS = 64
TTL_SECONDS = 600
RECORDS = [{"id": n, "title": f"Article {n}", "views": n * 7, "keywords": ["a", "b"]} for n in range(20)]

# Calls a decorated function with the number of a page.
Page = Callable[[int], Awaitable[object]]


async def print_pages(untagged: Page, tagged: Page | None) -> None:
    """Each page of the hits is computed before it is counted. `tagged`: None for a side that knows no tags."""
    pages = {"untagged": untagged} | ({"tagged": tagged} if tagged else {})
    calls: dict[str, tuple[Call, int]] = {}
    for name, page in pages.items():
        for number in range(CALLERS):
            await page(number)
        calls[f"hits/s, {name}"] = (page, CALLERS)
        calls[f"misses/s, {name}"] = (_always_new(page), CALLERS)
    await print_rates(calls)


def _always_new(page: Page) -> Call:
    numbers = itertools.count(1000)
    return lambda _: page(next(numbers))
