"""How the cost of an operation grows with what Redis holds: keys, entries, tasks, channels, events.

Each curve has a Redis of its own, from empty to full, and each cost is the median of five measurements: `rounds` has no
part in it. All take four minutes.
"""

import uvloop

from bench.growth_curves import CURVES, Curve
from bench.rounds import record, redis_server, shown

MEASUREMENTS = 5


def main(rounds: int) -> None:
    del rounds
    found: dict[str, dict[str, list[float]]] = {}
    for name, curve in CURVES.items():
        with redis_server() as url:
            found[name] = uvloop.run(_measure(curve, url))
        summary = record("growth", found)["sides"][name]
        print(f"\n{name}")
        least = summary["1"]["median"]
        for size, spread in summary.items():
            times = spread["median"] / least
            low, high = shown(spread["low"]), shown(spread["high"])
            print(f"  {size:>9} {shown(spread['median']):>9} µs   ({low} to {high})   {times:.2f} times")


async def _measure(curve: Curve, url: str) -> dict[str, list[float]]:
    """The costs at each size, in µs."""
    found: dict[str, list[float]] = {}
    before, size = 0, 1
    async with curve.prepare(url) as grown:
        while size <= curve.most:
            await grown.grow(before, size)
            found[f"{size:,}"] = [await grown.measure(size) for _ in range(MEASUREMENTS)]
            before, size = size, size * 10
    return found
