"""Errors as responses: those of Redis that no block handles, and whose handler answers a status."""

import logging
from typing import Any

import pytest
from quart import Blueprint, Quart
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from werkzeug.exceptions import HTTPException

from app.errors import (
    AppError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from app.kit.client import errors
from app.web import problems
from tests.kit.cache.cache_support import Counts


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (RedisConnectionError("Error 111 connecting to host"), logging.WARNING),
        (NoPermissionError("NOPERM this user has no permissions to run the 'get' command"), logging.ERROR),
        (ResponseError("ERR user_script:1: attempt to index a nil value"), logging.ERROR),
    ],
    ids=["outage", "permission", "script"],
)
async def test_redis_in_error_is_503_and_a_defect_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: RedisError, level: int
) -> None:
    # A defect that another test has met is logged here anew.
    monkeypatch.setattr(errors, "_logged", set())
    app, counts = Quart(__name__), Counts()
    problems.register(app, counts)

    @app.get("/")
    async def view() -> str:
        raise error

    with caplog.at_level(logging.WARNING):
        await app.test_client().get("/")
        response = await app.test_client().get("/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert (await response.get_json())["status"] == 503
    assert str(error) not in await response.get_data(as_text=True)
    is_defect = level == logging.ERROR
    assert [record.levelno for record in caplog.records if record.name == problems.__name__] == [level] * 2
    assert len([record for record in caplog.records if record.exc_info]) == is_defect
    assert counts.total == {"redis_defects" if is_defect else "redis_outages": 2}


class Teapot(AppError):
    """A status that Werkzeug has no exception for."""

    status, title = 420, "Enhance Your Calm"


ERRORS: list[AppError] = [BadRequest("b"), Unauthorized("u"), Forbidden("f"), NotFound("n"), Conflict("c")]
ERRORS += [PreconditionFailed("p"), TooLarge("t"), UnsupportedMediaType("m"), Invalid([{"loc": ["a"], "msg": "b"}])]
ERRORS += [TooManyRequests("t", headers={"Retry-After": "7"}), Unavailable("a", retry_after_seconds=7)]


def failing(error: Exception) -> Quart:
    app = Quart(__name__)
    problems.register(app)

    @app.get("/")
    async def view() -> str:
        raise error

    return app


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["status", "class", "HTTPException"])
async def test_an_applications_handler_of_a_status_is_called(error: AppError, kind: str) -> None:
    app = failing(error)
    seen: list[Any] = []

    async def handler(given: Any) -> Any:
        seen.append(given)
        return "our own page", given.code if isinstance(given, HTTPException) else given.status

    bearer = {"status": error.status, "class": type(error), "HTTPException": HTTPException}[kind]
    app.register_error_handler(bearer, handler)  # type: ignore[arg-type]
    response = await app.test_client().get("/")
    assert (response.status_code, await response.get_data(as_text=True)) == (error.status, "our own page")
    assert seen[0] is error or seen[0].__cause__ is error
    if kind != "class":
        assert {name: response.headers[name] for name in error.headers} == error.headers


@pytest.mark.parametrize("error", [*ERRORS, Teapot("calm")], ids=lambda error: type(error).__name__)
async def test_without_one_it_is_problem_details(error: AppError) -> None:
    response = await failing(error).test_client().get("/")
    body = await response.get_json(force=True)
    assert response.content_type == problems.MEDIA_TYPE
    assert response.status_code == body["status"] == error.status
    assert (body["title"], body["detail"], body["type"]) == (error.title, error.detail, error.type)
    assert {name: response.headers[name] for name in error.headers} == error.headers


@pytest.mark.parametrize("error", [Forbidden(), RedisConnectionError(), ZeroDivisionError()], ids=repr)
async def test_a_blueprints_handler_comes_before_the_applications(error: Exception) -> None:
    app, blueprint = Quart(__name__), Blueprint("shop", "shop")
    problems.register(app)
    for status in (403, 500, 503):
        app.register_error_handler(status, lambda given: ("the application's", given.code))
        blueprint.register_error_handler(status, lambda given: ("the shop's", given.code))

    @blueprint.get("/")
    async def view() -> str:
        raise error

    app.register_blueprint(blueprint)
    assert await (await app.test_client().get("/")).get_data(as_text=True) == "the shop's"


async def test_the_handler_of_500_gets_a_defect_and_503_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    for error, status in ((ZeroDivisionError(), 500), (RedisConnectionError(), 503)):
        app = failing(error)
        app.register_error_handler(status, lambda given: (f"own {given.code}", given.code))
        response = await app.test_client().get("/")
        assert (response.status_code, await response.get_data(as_text=True)) == (status, f"own {status}")
        assert ("Retry-After" in response.headers) == (status == 503)
    assert any(record.exc_info for record in caplog.records)


async def test_a_handler_that_fails_is_500_and_ends() -> None:
    app = failing(NotFound())

    async def handler(error: Any) -> str:
        raise NotFound

    app.register_error_handler(404, handler)
    assert (await app.test_client().get("/")).status_code == 500
