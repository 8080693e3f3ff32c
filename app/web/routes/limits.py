"""The limits for an operator: the status of a subject, and a reset for one that is locked out."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint, Quart, Response, current_app, jsonify
from quart_schema import document_response, tag_blueprint, validate_querystring

from app.errors import NotFound
from app.kit.limits.limit import Limit
from app.web.client_address import network_of
from app.web.context import resources
from app.web.identity.auth import require_role
from app.web.limits.declare import RouteLimits
from app.web.route_policy import compile_routes

blueprint = Blueprint("limits", __name__, url_prefix="/api/v1/admin/limits")
tag_blueprint(blueprint, ["admin"])


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """A limit, and the endpoints that it holds for."""

    name: str
    amount: int
    window_seconds: int
    algorithm: str
    counts: str
    on_error: str
    shadow: bool
    endpoints: list[str]


@dataclass(frozen=True, slots=True)
class LimitPolicies:
    limits: list[LimitPolicy]


class SubjectQuery(BaseModel):
    """Who is counted, as the limits name them: address:192.0.2.1, user:7, account:ada@example.com."""

    subject: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Usage:
    name: str
    subject: str
    remaining: int
    """Units that are free now."""
    reset_seconds: float
    """Until one unit more is free."""


@blueprint.get("")
@require_role("admin")
@document_response(LimitPolicies)
async def policies() -> Response:
    """All limits that routes declare; those that a function finds for each request have no entry."""
    declared = _declared(current_app)
    return jsonify(LimitPolicies([_policy(limit, endpoints) for limit, endpoints in declared.values()]))


@blueprint.get("/<name>")
@require_role("admin")
@validate_querystring(SubjectQuery)
@document_response(Usage)
async def usage(name: str, query_args: SubjectQuery) -> Response:
    """The status of a limit for a subject. Nothing is counted."""
    limit, subject = _limit(name), _counted(query_args.subject)
    [limit_status] = (await resources().limiter.peek([(limit, subject)])).statuses
    return jsonify(Usage(name, subject, limit_status.remaining, limit_status.wait_seconds))


@blueprint.delete("/<name>")
@require_role("admin")
@validate_querystring(SubjectQuery)
async def reset(name: str, query_args: SubjectQuery) -> tuple[str, int]:
    """Reset a limit for a subject. 404: it had counted nothing."""
    if not await resources().limiter.reset([(_limit(name), _counted(query_args.subject))]):
        raise NotFound("This limit has counted nothing of this subject.")
    return "", 204


def _declared(app: Quart) -> dict[str, tuple[Limit, list[str]]]:
    """Each limit by its name, with the endpoints that share it."""
    found: dict[str, tuple[Limit, list[str]]] = {}
    for endpoint, route in compile_routes(app).items():
        for policy in (route.policy, *route.by_method.values()):
            for limit in policy.limits.declared() if isinstance(policy.limits, RouteLimits) else ():
                endpoints = found.setdefault(limit.name, (limit, []))[1]
                if endpoint not in endpoints:
                    endpoints.append(endpoint)
    return found


def _policy(limit: Limit, endpoints: list[str]) -> LimitPolicy:
    return LimitPolicy(
        name=limit.name,
        amount=limit.amount,
        window_seconds=limit.window_seconds,
        algorithm=limit.algorithm,
        counts=limit.counts,
        on_error=limit.on_error,
        shadow=limit.shadow,
        endpoints=endpoints,
    )


def _limit(name: str) -> Limit:
    found = _declared(current_app).get(name)
    if found is None:
        raise NotFound("There is no such limit.")
    return found[0]


def _counted(subject: str) -> str:
    """As the limits count it: an address by its network, an account by its email address in lower case, all others (an
    API key, the value of a header) as they are."""
    kind, _, name = subject.partition(":")
    if kind == "address":
        return f"{kind}:{network_of(name)}"
    return subject.lower() if kind == "account" else subject
