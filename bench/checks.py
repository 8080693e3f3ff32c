"""What each side of the limits' benchmark is put through: checks by 64 callers, each with a subject of its own."""

from collections.abc import Awaitable, Callable

from bench.load import print_rates

CALLERS = 64
# Never reached: a refusal would be another kind of work. The windows are those of one, and of three limits.
AMOUNT = 10_000
PERIODS = ("minute", "hour", "day")

# Checks so many limits, of which PERIODS names the windows, for a subject.
Check = Callable[[int, str], Awaitable[object]]


async def print_checks(check: Check) -> None:
    await print_rates(
        {
            "checks/s of 1 limit": (lambda number: check(1, f"subject{number}"), CALLERS),
            "checks/s of 3 limits": (lambda number: check(3, f"subject{number}"), CALLERS),
        }
    )
