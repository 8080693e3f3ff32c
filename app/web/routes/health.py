"""Health: live (the loop runs), ready (may receive traffic), and a report on each backend."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from quart import Blueprint, Response, current_app, jsonify
from redis.exceptions import RedisError, ResponseError

from app.errors import Unavailable, root_cause
from app.kit.client.connect import client_stats
from app.kit.client.deadline import budget, running_budget
from app.kit.client.deployment import deployment
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.resources import Resources
from app.web.answers import answers
from app.web.context import resources
from app.web.limits.declare import exempt

logger = logging.getLogger(__name__)
blueprint = Blueprint("health", __name__)
SCHEMA = "quartet_schema"
# Set in the application's extensions when this process is told to stop.
STOPPING = "quartet_stopping"
CHECK_SECONDS = 2.0
# Before a check ends: the cache's has to learn that its server is down, whatever a request may wait.
REDIS_SECONDS = 1.0
REASON = "probes must get an answer when clients are limited"

Check = dict[str, Any]
Probe = Callable[[Resources], Awaitable[Check]]


@blueprint.get("/health/live")
@answers(200, content_type="application/json", description="The loop runs.")
@exempt(REASON)
async def live() -> Response:
    """Whether the process answers."""
    return jsonify({"status": "healthy"})


@blueprint.get("/health/ready")
@answers(200, content_type="application/json", description="The node may receive traffic.")
@answers(503)
@exempt(REASON)
async def ready() -> tuple[Response, int]:
    """503 while the database is down or not migrated, or while the node drains.

    200 and `degraded` while Redis is down: pages that do not need it are served, and a load balancer that removed
    every node would end those too. The same while the replica is down, whose load goes to the primary.
    """
    probes: dict[str, Probe] = {
        "redis": _redis,
        "database": _database,
        "database_replica": _database_replica,
        "streams": _streams,
    }
    return _answer(await _checks(resources(), probes), spared={"redis", "database_replica"})


@blueprint.get("/health")
@answers(200, content_type="application/json", description="Each backend answers, or is not needed.")
@answers(503)
@exempt(REASON)
async def health() -> tuple[Response, int]:
    """How each backend does; 503 while one that is needed is down."""
    return _answer(await check_all(), spared={"database_replica"})


async def check_all() -> dict[str, Check]:
    """How each backend does, by its name."""
    probes: dict[str, Probe] = {
        "redis": _redis,
        "redis_memory": _redis_memory,
        "cache": _cache,
        "database": _database,
        "database_replica": _database_replica,
        "tasks": _tasks,
        "streams": _streams,
        "loop": _loop,
    }
    return await _checks(resources(), probes)


def _answer(checks: dict[str, Check], *, spared: Collection[str] = ()) -> tuple[Response, int]:
    """One unhealthy check makes the report unhealthy, or only degraded if its name is in `spared`."""
    failed = {name for name, check in checks.items() if check["status"] == "unhealthy"}
    status = "unhealthy" if failed.difference(spared) else "degraded" if failed else "healthy"
    return jsonify({"status": status, "checks": checks}), 503 if status == "unhealthy" else 200


async def _checks(found: Resources, probes: Mapping[str, Probe]) -> dict[str, Check]:
    """Runs all probes concurrently, each within CHECK_SECONDS. One that fails is unhealthy, with its error's class."""

    async def run(name: str, probe: Probe) -> Check:
        given = running_budget()
        seconds = REDIS_SECONDS if given is None else min(REDIS_SECONDS, given.remaining_seconds)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                with budget(seconds):
                    return await probe(found)
        except (TimeoutError, Unavailable) as error:
            cause = root_cause(error)
        except RedisError as error:
            record_failure(error, block="health", telemetry=found.telemetry)
            cause = root_cause(error)
        except Exception as error:
            # The other checks are reported all the same.
            logger.exception("a defect: the check of %s failed", name)
            cause = root_cause(error)
        # Only the class of the root cause: an error's text may name hosts and users.
        return {"status": "unhealthy", "error": type(cause).__name__}

    answers = await asyncio.gather(*(run(name, probe) for name, probe in probes.items()))
    return dict(zip(probes, answers, strict=True))


async def _redis(found: Resources) -> Check:
    began = time.perf_counter()
    await found.redis.ping()
    latency_ms = round((time.perf_counter() - began) * 1000, 2)
    breakers = {name: stats["breaker"] for name, stats in client_stats(found.redis).items()}
    return {"status": "healthy", "latency_ms": latency_ms, "breakers": breakers}


async def _cache(found: Resources) -> Check:
    """Never unhealthy: while the cache's own server is down, the cache is bypassed."""
    if found.cache_redis is found.redis:
        return {"status": "shared"}
    breakers = {name: stats["breaker"] for name, stats in client_stats(found.cache_redis).items()}
    try:
        await found.cache_redis.ping()
    except UNAVAILABLE:
        return {"status": "bypassed", "breakers": breakers}
    return {"status": "healthy", "breakers": breakers}


async def _redis_memory(found: Resources) -> Check:
    if deployment(found.redis).is_embedded:
        return {"status": "embedded", "used": None}
    try:
        info = await found.redis.info("memory")
    except ResponseError:
        # The user may not send INFO, which nothing else here needs.
        return {"status": "unknown", "used": None}
    return {"status": "healthy", "used": info["used_memory_human"]}


async def _database(found: Resources) -> Check:
    """Unhealthy also by a schema that is behind, which `quartet db upgrade` mends."""
    began = time.perf_counter()
    missing = await found.database.missing_revisions(current_app.extensions[SCHEMA])
    latency_ms = round((time.perf_counter() - began) * 1000, 2)
    if missing:
        return {"status": "unhealthy", "error": "SchemaBehind", "missing_revisions": sorted(missing)}
    return {"status": "healthy", "latency_ms": latency_ms}


async def _database_replica(found: Resources) -> Check:
    answers = await found.database.replica_answers()
    if answers is None:
        return {"status": "none"}
    return {"status": "healthy"} if answers else {"status": "unhealthy", "error": "PrimaryIsRead"}


async def _tasks(found: Resources) -> Check:
    return {"status": "healthy", **(await found.queue.depth())}


async def _streams(found: Resources) -> Check:
    stops = found.hub.draining or current_app.extensions.get(STOPPING, False)
    return {"status": "unhealthy" if stops else "healthy", "open": found.hub.streams}


async def _loop(found: Resources) -> Check:
    """How late the loop runs a callback that is due now."""
    began = time.perf_counter()
    await asyncio.sleep(0)
    return {"status": "healthy", "lag_ms": round((time.perf_counter() - began) * 1000, 2)}
