"""`python -m bench NAME`: run one benchmark; without a name, all of them, and write docs/benchmarks.md.

`python -m bench report` writes that from the results that are recorded, without running anything.
"""

import argparse
import signal
import sys
from collections.abc import Callable

from bench import (
    api,
    app,
    cache,
    capacity,
    client,
    data,
    document,
    events,
    growth,
    limits,
    logins,
    serving,
    slow_clients,
    tasks,
    tasks_web,
)

BENCHMARKS: dict[str, Callable[[int], None]] = {
    "client": client.main,
    "limits": limits.main,
    "cache": cache.main,
    "app": app.main,
    "api": api.main,
    "api_1": api.main_of_1,
    "api_512": api.main_of_512,
    "logins": logins.main,
    "data": data.main,
    "serving": serving.main,
    "slow_clients": slow_clients.main,
    "tasks": tasks.main,
    "tasks_web": tasks_web.main,
    "events": events.main,
    "capacity": capacity.main,
    "events_10000": events.main_of_10_000,
    "growth": growth.main,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "report"])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    # Servers that are measured end with the benchmark, also when that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if given.name != "report":
        for name in [given.name] if given.name else BENCHMARKS:
            BENCHMARKS[name](given.rounds)
    if given.name in (None, "report"):
        document.main()


if __name__ == "__main__":
    main()
