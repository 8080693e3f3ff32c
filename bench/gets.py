"""What each side of the client's benchmark is put through: GETs by 64 callers, then by one alone."""

from collections.abc import Awaitable, Callable

from bench.load import print_rates

KEY, VALUE = "key", "x" * 100


async def print_gets(get: Callable[[str], Awaitable[object]]) -> None:
    await print_rates({f"GETs/s, {callers} callers": (lambda _: get(KEY), callers) for callers in (64, 1)})
