"""The /metrics route, for Prometheus."""

import hmac

from prometheus_client import CONTENT_TYPE_LATEST
from quart import Blueprint, Response, current_app, request
from redis.exceptions import RedisError

from app.errors import Forbidden, Unauthorized
from app.kit.client.connect import client_stats
from app.kit.client.errors import record_failure
from app.kit.tasks.queue import Queue
from app.web.answers import answers
from app.web.client_address import TRUSTED_HOPS, TRUSTED_PROXIES, is_loopback
from app.web.context import resources
from app.web.host import host_name, is_own_machine
from app.web.limits.declare import exempt
from app.web.telemetry import PrometheusTelemetry

TELEMETRY_EXTENSION = "quartet_telemetry"
METRICS_TOKEN = "METRICS_TOKEN"  # noqa: S105  the name of the setting
# What proxies add, each in its own way; none has to.
PROXY_HEADERS = (
    *("Forwarded", "Via", "X-Real-IP"),
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server"),
)

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@answers(200, content_type="text/plain", description="The metrics, for Prometheus.")
@answers(401, 403)
@exempt("read by a monitor from loopback, or with its token")
async def metrics() -> Response:
    """The metrics of this node, and of the queues."""
    _check_reader(current_app.config[METRICS_TOKEN])
    return Response(await read_metrics(), content_type=CONTENT_TYPE_LATEST)


async def read_metrics() -> bytes:
    """The metrics in Prometheus' text format, with those of Redis and of the queues as they are now."""
    telemetry: PrometheusTelemetry = current_app.extensions[TELEMETRY_EXTENSION]
    _gauge_redis(telemetry)
    _gauge_database(telemetry)
    for queue in resources().queues.values():
        await _gauge_queue(telemetry, queue)
    return telemetry.exposition()


def _gauge_redis(telemetry: PrometheusTelemetry) -> None:
    """Read at each scrape: to count through the telemetry would cost as much as the command itself."""
    found = resources()
    servers = client_stats(found.redis)
    if found.cache_redis is not found.redis:
        servers |= {f"cache:{name}": stats for name, stats in client_stats(found.cache_redis).items()}
    for server, stats in servers.items():
        telemetry.gauge("redis_breaker_open", float(stats["breaker"] == "open"), server=server)
        for name, value in stats.items():
            if isinstance(value, int):
                telemetry.gauge(f"redis_{name}", float(value), server=server)


def _gauge_database(telemetry: PrometheusTelemetry) -> None:
    for name, (in_use, idle) in resources().database.pool_use().items():
        telemetry.gauge("database_connections", in_use, database=name, state="in_use")
        telemetry.gauge("database_connections", idle, database=name, state="idle")


async def _gauge_queue(telemetry: PrometheusTelemetry, queue: Queue) -> None:
    """Of the queue, and so of all its workers; what one worker measures is in the metrics of its process."""
    try:
        depth, totals = await queue.depth(), await queue.totals()
    except RedisError as error:
        # Fails open: the other metrics are read, and these are unknown.
        record_failure(error, block="tasks", telemetry=telemetry)
        telemetry.gauge("task_queue_up", 0.0, queue=queue.name)
        return
    telemetry.gauge("task_queue_up", 1.0, queue=queue.name)
    telemetry.gauge("task_queue_oldest_seconds", depth["oldest_seconds"], queue=queue.name)
    for place, size in depth.items():
        if isinstance(size, int):
            telemetry.gauge("task_queue_depth", size, queue=queue.name, place=place)
    for outcome, amount in totals.items():
        telemetry.gauge("task_queue_totals", amount, queue=queue.name, outcome=outcome)


def _check_reader(token: str) -> None:
    """With METRICS_TOKEN set, a bearer token (RFC 6750); without, which production refuses, a process of this machine.

    A proxy on this machine is such a process: what it passes on is refused as far as it can be told.
    """
    if token:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token.encode()):
            raise Unauthorized("The metrics need their token.")
        return
    peer = request.remote_addr or ""
    # Quart's test client is "<local>".
    is_local = is_loopback(peer) or peer == "<local>"
    if not is_local or _is_forwarded() or not is_own_machine(host_name(request.headers.get("Host", ""))):
        raise Forbidden("The metrics are read from this machine, or with METRICS_TOKEN.")


def _is_forwarded() -> bool:
    has_proxy = current_app.config.get(TRUSTED_PROXIES) or current_app.config.get(TRUSTED_HOPS)
    return bool(has_proxy) or any(name in request.headers for name in PROXY_HEADERS)
