"""Runs the sides of a benchmark in turn, round after round, and reports medians, spread and ratios."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.services import RedisServer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PEERS_PYTHON = ROOT / "bench" / ".venv" / "bin" / "python"
OLDER_PYTHON = ROOT / "bench" / ".venv-older" / "bin" / "python"

# How our servers run. In development the application records each request and each Redis command of it.
SERVING = {"ENVIRONMENT": "testing"}

# Figures below this are shown with three decimals, others with one.
SMALL = 10.0

# A side's figures of one round, by name; and those of every round, by side.
Figures = dict[str, float]
Found = Mapping[str, Mapping[str, Sequence[float]]]


class Measured(Protocol):
    """One of those that are measured."""

    @property
    def name(self) -> str: ...

    def measure(self) -> Figures: ...


@dataclass(frozen=True)
class Side:
    """A module that prints its figures as JSON, in our environment or the peers'."""

    name: str
    module: str
    environ: Mapping[str, str]
    peer: bool = False
    command: Sequence[str] = ()
    """What runs the module, where it is neither of these environments."""

    def measure(self) -> Figures:
        python = PEERS_PYTHON if self.peer else sys.executable
        command = [*(self.command or (str(python), "-m")), self.module]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **self.environ}, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} failed:\n{done.stderr}")
        figures: Figures = json.loads(done.stdout)
        return figures


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a fresh server, for the duration of the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        try:
            yield server.url
        finally:
            server.stop()


def run_rounds(sides: Sequence[Measured], *, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Each side's figures of every round. Each round begins with another side, so that none is always first."""
    found: dict[str, dict[str, list[float]]] = {side.name: {} for side in sides}
    for number in range(rounds):
        for side in [*sides[number % len(sides) :], *sides[: number % len(sides)]]:
            for figure, value in side.measure().items():
                found[side.name].setdefault(figure, []).append(value)
    return found


# What one result file says, as JSON.
Result = dict[str, Any]


def report(name: str, found: Found, *, costs: Collection[str] = ()) -> None:
    """Print the table and write bench/results/NAME.json.

    Ratios are of the first side to each other one; for the figures in `costs`, of each other one to the first.
    """
    result = record(name, found, costs=costs)
    summary, ratios = result["sides"], result["ratios"]
    for figure in next(iter(found.values())):
        print(f"\n{figure}")
        for side in (side for side in found if figure in found[side]):
            spread = summary[side][figure]
            ratio = f"   {ratios[figure][side]:.2f} times" if side in ratios[figure] else ""
            low, high = shown(spread["low"]), shown(spread["high"])
            print(f"  {side:<32} {shown(spread['median']):>12}   ({low} to {high}){ratio}")


def record(name: str, found: Found, *, costs: Collection[str] = ()) -> Result:
    """Write bench/results/NAME.json; see report()."""
    ours, *others = found
    summary = {
        side: {figure: _summary(values) for figure, values in figures.items()} for side, figures in found.items()
    }
    ratios = {
        figure: {
            other: ratio
            for other in others
            if figure in found[other]
            and (ratio := _ratio(summary[ours][figure], summary[other][figure], is_cost=figure in costs)) is not None
        }
        for figure in found[ours]
    }
    result = {
        "benchmark": name,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": len(next(iter(found[ours].values()))),
        "costs": [figure for figure in found[ours] if figure in costs],
        "sides": summary,
        "ratios": ratios,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _ratio(ours: Mapping[str, float], other: Mapping[str, float], *, is_cost: bool) -> float | None:
    """None where one of them is zero, such as a number of errors."""
    a, b = (other["median"], ours["median"]) if is_cost else (ours["median"], other["median"])
    return round(a / b, 3) if a and b else None


def _summary(values: Sequence[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, _decimals(value)) for name, value in found.items()}


def shown(value: float) -> str:
    return f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 1 if value >= SMALL else 3
