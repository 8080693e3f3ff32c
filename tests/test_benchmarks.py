"""docs/benchmarks.md says what the recorded results give."""

import json
from typing import Any

from bench.bounds import BOUNDS, Bound, growth_of
from bench.document import DOCUMENT, LATEST, document, latest, recorded

FIGURE = "requests/s"


def result(**sides: float) -> dict[str, Any]:
    """A result in which each side has this median."""
    spreads = {side: {FIGURE: {"median": value, "low": value, "high": value}} for side, value in sides.items()}
    return {"rounds": 3, "sides": spreads, "ratios": {FIGURE: {"peer": 2.0}}}


def bound(**options: Any) -> Bound:
    return Bound(claim="fast", result="api", figure=FIGURE, side="ours", **options)


def curve(*medians: float) -> dict[str, dict[str, float]]:
    return {str(10**power): {"median": median} for power, median in enumerate(medians)}


def test_the_document_and_the_latest_results_are_those_that_are_recorded() -> None:
    results = recorded()
    assert len(results) > 5
    assert DOCUMENT.read_text() == document(results), "`python -m bench report` writes it"
    assert json.loads(LATEST.read_text()) == results
    assert LATEST.read_text() == latest(results)


def test_each_bound_that_does_not_hold_has_a_reason() -> None:
    results = recorded()
    measured = [(each, found) for each in BOUNDS if (found := each.measured(results)) is not None]
    assert measured
    assert [each.claim for each, found in measured if not each.holds(found) and not each.reason] == []


def test_a_bound_is_held_against_the_hardest_of_the_others() -> None:
    results = {"api": result(ours=300, peer=150, other=100)}
    others = ("peer", "other")
    assert bound(others=others, least=2).measured(results) == 2
    assert bound(others=others, most=3).measured(results) == 3
    assert bound(most=300).measured(results) == 300
    assert bound(others=("missing",), most=1).measured(results) is None
    assert bound(least=2).holds(2)
    assert not bound(least=2).holds(1.99)
    assert bound(most=2).holds(2)
    assert not bound(most=2).holds(2.01)


def test_the_shape_of_a_curve() -> None:
    assert growth_of(curve(10, 12, 13, 11)) == (1.3, "flat")
    assert growth_of(curve(10, 11, 12, 13, 13.5)) == (1.35, "logarithmic")
    assert growth_of(curve(10, 11, 20, 13)) == (2.0, "steeper")


def test_errors_are_said_and_are_no_requests() -> None:
    refused = result(ours=1, peer=1)
    refused["sides"]["peer"]["cached: errors"] = {"median": 0, "low": 0, "high": 7}
    refused["ratios"] = {}
    text = document({"growth": {"rounds": 1, "sides": {"keys": {"1": _spread(2), "10": _spread(4)}}}, "app": refused})
    assert "Errors, which are not counted as requests: peer, cached: 7 in a round at most." in text
    assert "Keys: steeper, 2.00 times at the highest." in text


def _spread(value: float) -> dict[str, float]:
    return {"median": value, "low": value, "high": value}
