"""docs/capacity.md: its tables are its arithmetic, and its costs are no smaller than what was measured."""

import json
import re
from typing import Any

import pytest

from tests.commands import ROOT
from tests.guides import guide_text, names_of_examples

TEXT = guide_text("capacity.md")
REDIS, STAYS = "Redis CPU, µs an operation", "bytes that stay of each"
# A figure of the guide, and where it was measured: benchmark, side, figure.
MEASURED = {
    "A request with a session": ("app", "quartet, session + limit + cache", "CPU, µs a request"),
    "Its connection and parsing": ("serving", "quartet", "CPU, µs a request"),
    "An open stream": ("events_10000", "quartet", "memory, KiB a stream"),
    "An event to one stream": ("events_10000", "quartet", "single, CPU µs a delivery"),
    "A check of a limit": ("capacity", "limit check", REDIS),
    "A session that is read": ("capacity", "session read", REDIS),
    "A cached value": ("capacity", "cache hit, 1 KB", REDIS),
    "An event that is published": ("capacity", "event published", REDIS),
    "A task that is enqueued": ("capacity", "task, enqueued and run", REDIS),
    "A session that is made": ("capacity", "session made", STAYS),
    "An event in a history": ("capacity", "event published", STAYS),
    "A task that is done": ("capacity", "task, enqueued and run", STAYS),
}


def rows(begin: str) -> list[list[str]]:
    """The cells of the table's rows that begin so."""
    return [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith(f"| {begin}")]


@pytest.mark.parametrize("begin", MEASURED)
def test_a_cost_is_what_was_measured_or_more(begin: str) -> None:
    benchmark, side, figure = MEASURED[begin]
    sides = json.loads((ROOT / "bench/results" / f"{benchmark}.json").read_text())["sides"]
    [[_, stated, named]] = rows(begin)
    assert float(stated.split()[0]) >= sides[side][figure]["median"]
    assert named == f"`{benchmark}`"


def test_the_tables_are_the_arithmetic() -> None:
    guide: dict[str, Any] = names_of_examples("capacity.md")
    stated = {cost: int(re.findall(r"\d+", rows(begin)[0][1])[0]) for begin, cost in NAMES.items()}
    assert stated == {cost: guide[cost] for cost in stated}
    amounts = [10_000, 100_000, 1_000_000]
    for amount in amounts:
        cells = [row for row in rows(f"{amount:,} ") if len(row) == 4]
        assert [f"{each:,}" for each in guide["for_requests"](amount)] in [row[1:] for row in cells]
    processes, gigabytes, seconds = guide["for_streams"](1_000_000)
    assert [f"{processes}", f"{gigabytes:.0f} GB", f"{seconds:.2f} s"] in [row[1:] for row in rows("1,000,000 ")]
    for begin, cost in (("The limits", "LIMIT_US"), ("The events' clock", "EVENT_US")):
        assert rows(begin)[0][2].startswith(f"{guide['most_per_second'](guide[cost]):,} ")


NAMES = {
    "A check of a limit": "LIMIT_US",
    "A session that is read": "SESSION_US",
    "A cached value": "CACHE_US",
    "An event that is published": "EVENT_US",
    "An open stream": "STREAM_KIB",
    "An event to one stream": "DELIVERY_US",
}
