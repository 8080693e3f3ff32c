"""The cache beside others: calls a second of a decorated function, by 64 callers at once."""

from bench.rounds import Side, redis_server, report, run_rounds


def main(rounds: int) -> None:
    with redis_server() as url:
        environ = {"REDIS_URL": url}
        sides = (
            Side("quartet", "bench.sides.memoized", environ),
            Side("cashews", "bench.sides.peer_cashews", environ, peer=True),
            Side("aiocache, JSON", "bench.sides.peer_aiocache", environ | {"SERIALIZER": "json"}, peer=True),
            Side("aiocache, pickle", "bench.sides.peer_aiocache", environ | {"SERIALIZER": "pickle"}, peer=True),
            Side("flask-caching", "bench.sides.peer_flask_caching", environ, peer=True),
        )
        report("cache", run_rounds(sides, rounds=rounds))
