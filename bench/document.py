"""Writes docs/benchmarks.md and bench/results/latest.json from the results that are recorded, without measuring."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.bounds import BOUNDS, NOT_PROFILED, STEEPER, Bound, Results, growth_of
from bench.rounds import RESULTS, ROOT, Result, shown

DOCUMENT = ROOT / "docs" / "benchmarks.md"
LATEST = RESULTS / "latest.json"
BAR = 20
WIDTH = 120
GROWTH = "growth"
INTRODUCTION = """# Benchmarks

`make bench` measures Quartet beside other libraries and stacks, which it installs into environments of their own, and
writes this page; `make bench NAME=api` runs one benchmark, and `make bench NAME=report` writes the page from what is
recorded in [bench/results](../bench/results). Each peer is set up as its documentation tells, with its fast options.
All servers run on one machine with the clients, on loopback, and the sides take turns, round after round: so the ratios
of one table can be compared, and the figures of two machines, or of two tables, cannot.
"""


class Section(NamedTuple):
    """`figures`: those that are shown; all where it is empty."""

    title: str
    text: str
    figures: tuple[str, ...] = ()


def _api(connections: str, text: str) -> Section:
    figures = tuple(
        f"{route}: {unit}" for unit in ("requests/s", "ms, p99") for route in ("cached", "session", "write")
    )
    return Section(f"HTTP, {connections}", text, figures)


SECTIONS = {
    "app": Section("A request in process", "The ASGI application without a server, beside a route of plain Quart."),
    "api": _api(
        "64 connections",
        """One worker process each, loaded by wrk. `cached`: a page that is cached as a whole, limited by the client's
address. `session`: an answer of the user in the session and of a page in the cache, limited. `write`: a record that is
stored in Redis, limited. The limits are never reached, and their window is a second: it favours those that store each
request of the window. Bare Quart has none of all this, and runs in the connections of `quartet serve`. Answers of
another status are errors and no requests a second.""",
    ),
    "api_512": _api("512 connections", "The same; each side is as overloaded as the next."),
    "api_1": _api("1 connection", "The same; the latency of one request decides."),
    "client": Section("The Redis client", "GETs by many callers and by one."),
    "limits": Section("Rate limits", "Checks of one limit and of three."),
    "cache": Section("The cache", "Hits and misses of a decorated function, by 64 callers."),
    "tasks": Section("Tasks", "No-op tasks, one worker process, 32 at a time."),
    "tasks_web": Section("Requests beside tasks", "The latency of requests while the same process works off tasks."),
    "events": Section(
        "Event streams",
        "2,000 streams. The others have no Redis, no ids and no resume.",
        (
            "connect, CPU µs a stream",
            "memory, KiB a stream",
            "single, CPU µs a delivery",
            "single, ms p50",
            "single, ms p99",
            "burst of 20, CPU µs a delivery",
        ),
    ),
    "events_10000": Section(
        "Event streams, 10,000",
        "The same with 10,000 streams.",
        ("connect, CPU µs a stream", "memory, KiB a stream", "single, ms p50", "single, ms p99"),
    ),
    "serving": Section("Connections", "`quartet serve` beside plain Hypercorn, with an application that does nothing."),
    "slow_clients": Section("Slow clients", "Requests beside 2,700 clients that send or read next to nothing."),
    "data": Section("A large database", "100,000 articles and 1,000,000 messages in PostgreSQL, nothing cached."),
    GROWTH: Section(
        "Growth",
        """What an operation costs among so many keys, entries, tasks, channels or events, in µs, and over the cost at
the smallest size. Flat: within 1.3; logarithmic: no tenfold adds more than a tenth of the smallest.""",
    ),
}


def main() -> None:
    results = recorded()
    LATEST.write_text(latest(results))
    DOCUMENT.write_text(document(results))


def recorded(folder: Path = RESULTS) -> dict[str, Result]:
    """The results by the name of their benchmark, in the order of the document."""
    found = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def latest(results: Results) -> str:
    return json.dumps(results, indent=2) + "\n"


def document(results: Results) -> str:
    """The text of docs/benchmarks.md."""
    parts = [INTRODUCTION, *_bounds(results)]
    for name, result in results.items():
        section = SECTIONS[name]
        rounds = "" if name == GROWTH else f" Rounds: {result['rounds']}."
        parts.append(f"## {section.title}\n\n{section.text}{rounds}\n")
        parts += _growth(result) if name == GROWTH else _figures(result, section.figures)
    return "\n".join(parts)


def _bounds(results: Results) -> Iterable[str]:
    measured = [(bound, found) for bound in BOUNDS if (found := bound.measured(results)) is not None]
    rows = [
        [bound.claim, _wanted(bound), f"{found:.2f}", "yes" if bound.holds(found) else "**no**"]
        for bound, found in measured
    ]
    missed: dict[str, list[str]] = {}
    for bound, found in measured:
        if not bound.holds(found):
            missed.setdefault(bound.reason, []).append(bound.claim)
    for curve, costs in results.get(GROWTH, {}).get("sides", {}).items():
        times, shape = growth_of(costs)
        holds = shape != "steeper"
        claim = f"Growth, {curve}"
        rows.append([claim, "flat or logarithmic", f"{shape}, {times:.2f}", "yes" if holds else "**no**"])
        if not holds:
            missed.setdefault(STEEPER.get(curve, NOT_PROFILED), []).append(claim)
    if rows:
        yield "## What must hold\n\nOur figure over the other's, of medians; of several others, the hardest.\n"
        yield _table(["", "Bound", "Measured", "Holds"], rows)
    if missed:
        yield "What does not hold, and why:\n"
        for reason, claims in missed.items():
            yield textwrap.fill(f"- {'; '.join(claims)}. {reason}", WIDTH, subsequent_indent="  ")
        yield ""


def _wanted(bound: Bound) -> str:
    return f"at least {bound.least:g}" if bound.least is not None else f"at most {bound.most:g}"


def _figures(result: Result, figures: tuple[str, ...]) -> Iterable[str]:
    sides, ratios = result["sides"], result["ratios"]
    for figure in figures or ratios:
        found = {side: values[figure] for side, values in sides.items() if figure in values}
        most = max(spread["median"] for spread in found.values())
        rows = [
            [side, *_spread(spread), _times(ratios[figure].get(side)), _bar(spread["median"], most)]
            for side, spread in found.items()
        ]
        yield _table([figure, "median", "low to high", "ratio", ""], rows)
    if errors := _errors(sides):
        yield "Errors, which are not counted as requests: " + "; ".join(errors) + ".\n"


def _errors(sides: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    return [
        f"{side}, {figure.removesuffix(': errors')}: {spread['high']:.0f} in a round at most"
        for side, figures in sides.items()
        for figure, spread in figures.items()
        if figure.endswith(": errors") and spread["high"]
    ]


def _growth(result: Result) -> Iterable[str]:
    for curve, costs in result["sides"].items():
        times, shape = growth_of(costs)
        least, most = costs["1"]["median"], max(spread["median"] for spread in costs.values())
        rows = [
            [size, *_spread(spread), _times(spread["median"] / least), _bar(spread["median"], most)]
            for size, spread in costs.items()
        ]
        yield f"{curve[0].upper()}{curve[1:]}: {shape}, {times:.2f} times at the highest.\n"
        yield _table(["size", "median", "low to high", "ratio", ""], rows)


def _spread(spread: Mapping[str, float]) -> tuple[str, str]:
    return shown(spread["median"]), f"{shown(spread['low'])} to {shown(spread['high'])}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _bar(value: float, most: float) -> str:
    return "█" * max(1, round(BAR * value / most)) if value and most else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:-1]), "---"], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
