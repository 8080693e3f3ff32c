"""Every error as problem details (RFC 9457): our own, the framework's, and those of a backend that is down."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from quart import Quart, Response, current_app, has_request_context, request, websocket
from quart_schema import RequestSchemaValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException, InternalServerError, default_exceptions

from app.errors import (
    AppError,
    BadRequest,
    Invalid,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
    root_cause,
)
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.limits.decision import Decision
from app.kit.telemetry import NoTelemetry, Telemetry
from app.web.context import current_request_id

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
DEFECT = "The server met a defect; the request id helps to find it."
LONGEST_NAME = 100
_TELEMETRY = "quartet_problems"


def register(app: Quart, telemetry: Telemetry | None = None) -> None:
    """Install the handlers, so that `app` answers every failure as problem details, unless it has a handler of its own
    for the status (`errorhandler(429)`) or the class."""
    app.extensions[_TELEMETRY] = telemetry or NoTelemetry()
    app.register_error_handler(AppError, answer_error)
    app.register_error_handler(RequestSchemaValidationError, _from_validation)
    app.register_error_handler(HTTPException, _from_http_exception)
    app.register_error_handler(RedisError, _from_redis)
    app.register_error_handler(Exception, _from_defect)


def require_json() -> None:
    """UnsupportedMediaType unless the Content-Type is JSON (RFC 9110, 15.5.16). For views that read a JSON body.

    A body that is compressed is not accepted either (RFC 9110, 8.4): a few bytes could become any number of them.
    """
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body without a Content-Encoding.", headers={"Accept-Encoding": "identity"})
    if not request.is_json:
        raise UnsupportedMediaType("Send the body as application/json.")


def problem(
    status: int, title: str, detail: str, *, type: str = "about:blank", extra: dict[str, Any] | None = None
) -> Response:
    """A response of problem details (RFC 9457, 3) with the request's id. `extra` holds extension members."""
    body = {"type": type, "title": title, "status": status, "detail": detail, "request_id": current_request_id() or ""}
    return Response(msgspec.json.encode(body | (extra or {})), status=status, content_type=MEDIA_TYPE)


def with_request_id(body: bytes) -> bytes:
    """The problem details of another request, as those of this one."""
    return msgspec.json.encode(msgspec.json.decode(body) | {"request_id": current_request_id() or ""})


def status_of(error: AppError | HTTPException) -> int:
    return error.status if isinstance(error, AppError) else error.code or 500


async def answer_error(error: AppError | HTTPException) -> Response:
    """The response to an error: of the application's handler of its status, where there is one, or problem details.

    The handler gets Werkzeug's exception of that status; an AppError is its cause.
    """
    if isinstance(error, HTTPException):
        return await _answer(error, headers={})
    kind = default_exceptions.get(error.status)
    if kind is None:
        return _default(error)
    equivalent = kind(error.detail or None)
    equivalent.__cause__ = error
    return await _answer(equivalent, headers=error.headers)


async def _answer(equivalent: HTTPException, *, headers: Mapping[str, str]) -> Response:
    asked = request if has_request_context() else websocket
    # Flask's own search. Quart's public way to it, handle_http_exception(), takes other arguments in 0.22 than in 0.23.
    handler = current_app._find_error_handler(equivalent, asked.blueprints)
    result: Any = await current_app.ensure_async(handler)(equivalent) if handler else equivalent
    response = await current_app.make_response(result)
    for name, value in headers.items():
        # What the status demands, such as Retry-After, whichever handler made the response.
        response.headers.setdefault(name, value)
    return cast(Response, response)


def _default(error: AppError) -> Response:
    response = problem(error.status, error.title, error.detail, type=error.type, extra=error.extra)
    response.headers.update(error.headers)
    return response


async def _from_validation(error: RequestSchemaValidationError) -> Response:
    cause = error.validation_error
    if isinstance(cause, ValidationError):
        return await answer_error(Invalid(field_errors(cause)))
    return await answer_error(BadRequest("The body must be a JSON object."))


def field_errors(error: ValidationError) -> list[dict[str, Any]]:
    """The place and the message of each error. Not the input and its context: a body may hold a password."""
    return [_field(each) for each in error.errors(include_url=False, include_context=False, include_input=False)]


def _field(error: ErrorDetails) -> dict[str, Any]:
    # A name that the client made up is shortened.
    loc = [part[:LONGEST_NAME] if isinstance(part, str) else part for part in error["loc"]]
    return {"loc": loc, "msg": error["msg"].removeprefix("Value error, ") if loc else "must be an object"}


async def _from_http_exception(error: HTTPException) -> Response:
    if isinstance(error.__cause__, AppError):
        return _default(error.__cause__)
    answer = error.get_response()
    status = error.code or 500
    if status < 400:
        # A redirect is no problem.
        return Response(b"", status=status, headers=dict(answer.headers))
    response = problem(status, error.name, error.description or "")
    for name in ("Allow", "Content-Range", "Retry-After", "WWW-Authenticate"):
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    return response


def rate_limited(decision: Decision) -> TooManyRequests:
    """The error of a decision that refuses."""
    return TooManyRequests(
        f"Try again in {decision.retry_after_seconds} s.",
        headers={"Retry-After": str(decision.retry_after_seconds)},
        extra={"violated-policies": [limit_status.limit.name for limit_status in decision.refused]},
    )


def redis_failure(error: RedisError) -> Unavailable:
    """Fails closed: where a block has no answer without Redis, the client is asked to come back. Records the error."""
    record_failure(error, block="web", telemetry=current_app.extensions[_TELEMETRY])
    if isinstance(error, UNAVAILABLE):
        logger.warning("redis is unavailable: %s", type(root_cause(error)).__name__)
    else:
        logger.error("a defect: redis answered with %s", type(error).__name__)
    return Unavailable("A backend that this answer needs is down.")


async def _from_redis(error: RedisError) -> Response:
    return await answer_error(redis_failure(error))


async def _from_defect(error: Exception) -> Response:
    logger.exception("unhandled error", exc_info=error)
    equivalent = InternalServerError(DEFECT, original_exception=error)
    return await _answer(equivalent, headers={})
