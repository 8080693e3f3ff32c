"""What must hold of the recorded figures, and why what does not, does not."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.rounds import Result

FLAT = 1.3
# Of a curve that is not flat: what each tenfold may add to the cost at the smallest size.
A_TENFOLD = 0.1
Results = Mapping[str, Result]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Our median over the others' (without others: as it is) is at least, or at most, so much.

    Of several others the one counts for which it holds least. `reason`: said where it does not hold.
    """

    claim: str
    result: str
    figure: str
    side: str
    others: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    reason: str = ""

    def measured(self, results: Results) -> float | None:
        """None where no such result is recorded."""
        sides = results.get(self.result, {}).get("sides", {})
        try:
            ours: float = sides[self.side][self.figure]["median"]
            ratios: list[float] = [ours / sides[other][self.figure]["median"] for other in self.others] or [ours]
        except KeyError:
            return None
        return round(min(ratios) if self.least is not None else max(ratios), 2)

    def holds(self, measured: float) -> bool:
        return measured >= self.least if self.least is not None else measured <= (self.most or 0)


# Why a bound does not hold: what the profiles show, for several bounds each.
STEPS = (
    "A profile of a cached page is spread over many small steps: a sixth in the edge, an eighth in the Redis client, a "
    "tenth each in cache and limiter, 7 % in asyncio's streams, 4 % in the metrics. Of some 500 function calls a "
    "request, 94 are the Redis client's, 61 the edge's, 58 the metrics', 51 the cache's and 43 the limits'. At one and "
    "the same commit the ratio was 0.83 at one time and 0.94 at another, on a machine that others share."
)
SERVER = (
    "Of the 350 µs that a cached page takes at 64 connections, the application has about 140; the rest is the "
    "connection (Hypercorn's protocol, h11), the kernel, and Redis and wrk on the same two cores."
)
PEERS_ARE_FAST = (
    "The peers have their fast options (gunicorn's parser in C, msgpack for sessions) and a limit's window of a "
    "second, so that Flask-Limiter and Litestar keep few entries. " + SERVER
)
SESSION = (
    "The view runs: a third of the profile is Quart, Werkzeug and what they call. It reads its value by a memoized "
    "function, in a second round trip after the batch in which the edge asks for the session and the limit. A cached "
    "view with a session and a limit is one batch, and enters no view: its CPU is in the table of requests in process."
)
BARE_ROUTE = "The id, log, metrics and security headers cost about 40 µs; the rounds lie on both sides of the bound."
DEFAULT = "The limiter's round trip costs about 70 µs of this process; the rounds lie on both sides of the bound."
GRANIAN = "Granian takes Hypercorn's part away; the application's 140 µs, Redis and wrk stay on the same two cores."
CONNECT = (
    "h11 checks each header of the response three times, and ours has more of them; Werkzeug is asked for the "
    "request's headers and the response; then come the edge, guard and identity, the streams' own, and the metrics."
)
MEMORY = (
    "By tracemalloc the parts are small: three tasks with their coroutines, the transport, h11's state and Hypercorn's "
    "stream have the most, and no queue or header is held."
)
DELIVERY = (
    "One event to 2,000 streams is 2,000 writes to sockets on every side. By cProfile a delivery is 70 calls here and "
    "71 in bare Quart: 21 of h11 and 10 to 12 of Hypercorn in both, 20 of the streams' own, 9 of the flag that wakes "
    "the writer. 20 at once cost a tenth for each, because a stream writes together what waits."
)
OVERLOAD = "Of 512 requests each waits for those before it, so that this is about 512 times what one request takes."
CPU = "CPU, µs a request"
BARE = ("quart, bare route",)
STREAMS = ("quart, bare stream",)
ROUTES = ("quart, bare routes",)
FLASK = ("flask stack, gevent", "flask stack, gthread")
LITESTAR = ("litestar stack",)
PEERS = (*FLASK, "flask as guides teach, gevent", *LITESTAR, "fastapi stack")


def _app(claim: str, case: str, most: float, reason: str = "") -> Bound:
    return Bound(claim=claim, result="app", figure=CPU, side=f"quartet, {case}", others=BARE, most=most, reason=reason)


def _api(
    claim: str, route: str, others: tuple[str, ...], least: float, *, side: str = "quartet", reason: str = ""
) -> Bound:
    return Bound(
        claim=claim,
        result="api",
        figure=f"{route}: requests/s",
        side=side,
        others=others,
        least=least,
        reason=reason,
    )


BOUNDS = (
    _app("CPU of a bare route, beside bare Quart", "bare route", 1.25, BARE_ROUTE),
    _app("CPU of a bare route with the default limit, beside bare Quart", "bare route, default limit", 1.8, DEFAULT),
    _app("CPU of a cached and limited page, beside bare Quart", "limit + cache", 0.75, STEPS),
    _app("CPU of its 304, beside bare Quart", "limit + cache, 304", 0.75, STEPS),
    _app("CPU of a cached and limited page with a session, beside bare Quart", "session + limit + cache", 2.0),
    _api("Cached pages a second, beside bare Quart", "cached", ROUTES, 1.0, reason=SERVER),
    _api("Cached pages a second, beside the Flask stack", "cached", FLASK, 4.5, reason=PEERS_ARE_FAST),
    _api("Cached pages a second, beside Litestar", "cached", LITESTAR, 3.5, reason=PEERS_ARE_FAST),
    _api(
        "Cached pages a second on Granian, beside the Flask stack",
        "cached",
        FLASK,
        15.0,
        side="quartet on granian",
        reason=GRANIAN,
    ),
    _api("Reads of a session a second, beside bare Quart", "session", ROUTES, 0.65, reason=SESSION),
    _api("Reads of a session a second, beside the Flask stack", "session", FLASK, 2.5, reason=SESSION),
    _api("Reads of a session a second, beside Litestar", "session", LITESTAR, 2.5, reason=SESSION),
    *(
        Bound(
            claim=f"p99 of {what} at 512 connections, beside every peer",
            result="api_512",
            figure=f"{route}: ms, p99",
            side="quartet",
            others=PEERS,
            most=1.0,
            reason=OVERLOAD,
        )
        for route, what in (("cached", "cached pages"), ("session", "reads of a session"), ("write", "writes"))
    ),
    Bound(
        claim="CPU of a stream's connect, beside bare Quart",
        result="events",
        figure="connect, CPU µs a stream",
        side="quartet",
        others=STREAMS,
        most=1.1,
        reason=CONNECT,
    ),
    Bound(
        claim="KiB of memory a stream",
        result="events",
        figure="memory, KiB a stream",
        side="quartet",
        most=15,
        reason=MEMORY,
    ),
    Bound(
        claim="CPU of a delivery, beside bare Quart",
        result="events",
        figure="single, CPU µs a delivery",
        side="quartet",
        others=STREAMS,
        most=0.8,
        reason=DELIVERY,
    ),
)


NOT_PROFILED = "Why has not been profiled."
# Why a curve is steeper.
STEEPER = {
    "limiter: a check among keys": (
        "Redis finds a key at once, but a million keys are more than the processor's caches hold: its own time for the "
        "script of a check is 23 µs among 10,000 keys, 28 among 100,000 and 56 among a million."
    ),
    "events: one delivered among channels": (
        "Redis' own time for the script that publishes (commandstats) is 12 µs on one channel, 19 among 10,000 and 22 "
        "among 100,000, most of it in XADD, PUBLISH and GET: a third of what is added. In this process a delivery is "
        "11 % more calls among 30,000 channels than on one, where a stream is woken 180 times for 2,000 events that "
        "come together; among many each event wakes another stream."
    ),
}


def growth_of(costs: Mapping[str, Mapping[str, float]]) -> tuple[float, str]:
    """The highest cost of a curve over that at its smallest size, and its shape: flat, logarithmic or steeper."""
    medians = [spread["median"] for spread in costs.values()]
    most = max(medians) / medians[0]
    if most <= FLAT:
        return most, "flat"
    # Sizes are powers of ten, from 1 on.
    allowed = (1 + A_TENFOLD * tenfolds for tenfolds in range(len(medians)))
    is_logarithmic = all(median / medians[0] <= max(FLAT, most) for median, most in zip(medians, allowed, strict=True))
    return most, "logarithmic" if is_logarithmic else "steeper"
