"""What our connections cost: CPU time a request and an event's delivery, beside plain Hypercorn in the same run."""

from bench.rounds import Side, report, run_rounds


def main(rounds: int) -> None:
    sides = (
        Side("quartet", "bench.sides.served_requests", {"SERVER": "ours"}),
        Side("hypercorn", "bench.sides.served_requests", {"SERVER": "plain"}),
    )
    report("serving", run_rounds(sides, rounds=rounds), costs=("CPU, µs a request", "CPU, µs a delivery"))
