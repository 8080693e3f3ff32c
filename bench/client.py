"""The automatic pipeline beside other asynchronous clients: GETs a second by 64 callers, and by one alone."""

from bench.rounds import Side, redis_server, report, run_rounds


def main(rounds: int) -> None:
    with redis_server() as url:
        environ = {"REDIS_URL": url}
        sides = (
            Side("quartet", "bench.sides.redis_gets", environ),
            Side("redis-py", "bench.sides.peer_redis_py", environ, peer=True),
            Side("coredis", "bench.sides.peer_coredis", environ, peer=True),
            Side("valkey-glide", "bench.sides.peer_glide", environ, peer=True),
        )
        report("client", run_rounds(sides, rounds=rounds))
