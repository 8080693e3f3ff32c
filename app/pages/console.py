"""The console for admins: the figures of the metrics, the queues, workers, nodes and the health of the backends."""

import re
from dataclasses import dataclass

from quart import Blueprint, render_template
from quart_schema import hide
from redis.exceptions import RedisError, ResponseError

from app.kit.client.deployment import deployment
from app.kit.client.errors import record_failure
from app.kit.tasks.info import WorkerInfo
from app.pages.figures import Figure, parse_metrics, queue_figures, service_figures
from app.resources import Resources
from app.web.context import resources
from app.web.identity import auth
from app.web.routes.health import check_all
from app.web.routes.metrics import read_metrics

CONSOLE = "/console"
MOST_NODES = 200
# The name that the lifespan gives each of its connections: the host, the process id and the role.
_CLIENT = re.compile(r"(?P<host>[^:]+):(?P<pid>[0-9]+):(?P<role>[a-z-]+)$")

blueprint = Blueprint("console", __name__, template_folder="templates", url_prefix=CONSOLE)
auth.require_auth("cookie")(blueprint)
auth.require_role("admin")(blueprint)


@dataclass(frozen=True, slots=True)
class Node:
    """A process of this service that is connected to Redis."""

    host: str
    pid: int
    roles: tuple[str, ...]


@blueprint.get("")
@hide
async def console() -> str:
    """It opens while Redis is down too, as far as a session is known: what Redis alone knows is then left out."""
    found = resources()
    samples = parse_metrics(await read_metrics())
    queues: dict[str, list[Figure]] = {name: queue_figures(samples, name) for name in found.queues}
    return await render_template(
        "console.html",
        queues=queues,
        service=service_figures(samples),
        workers=await _workers(found),
        nodes=await _nodes(found),
        checks=await check_all(),
    )


async def _workers(found: Resources) -> list[tuple[str, WorkerInfo]]:
    try:
        return [(name, worker) for name, queue in found.queues.items() for worker in await queue.workers()]
    except RedisError as error:
        record_failure(error, block="tasks", telemetry=found.telemetry)
        return []


async def _nodes(found: Resources) -> list[Node]:
    """By the connections that Redis has; none where it is embedded, or its user may not ask."""
    if deployment(found.redis).is_embedded:
        return []
    try:
        clients = await found.redis.client_list()
    except ResponseError:
        return []
    except RedisError as error:
        record_failure(error, block="console", telemetry=found.telemetry)
        return []
    prefix = f"{found.keys.namespace}:"
    names = (each.get("name", "") for each in clients)
    matches = (_CLIENT.match(name.removeprefix(prefix)) for name in names if name.startswith(prefix))
    roles: dict[tuple[str, int], set[str]] = {}
    for match in filter(None, matches):
        roles.setdefault((match["host"], int(match["pid"])), set()).add(match["role"])
    return [Node(host, pid, tuple(sorted(each))) for (host, pid), each in sorted(roles.items())[:MOST_NODES]]
