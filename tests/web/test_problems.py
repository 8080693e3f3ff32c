"""Errors of Redis that no block handles: 503 in any case, and a defect is never silent."""

import logging

import pytest
from quart import Quart
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from app.web import problems


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
    caplog: pytest.LogCaptureFixture, error: RedisError, level: int
) -> None:
    app = Quart(__name__)
    problems.register(app)

    @app.get("/")
    async def view() -> str:
        raise error

    with caplog.at_level(logging.WARNING):
        response = await app.test_client().get("/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert (await response.get_json())["status"] == 503
    assert str(error) not in await response.get_data(as_text=True)
    [record] = [record for record in caplog.records if record.name == problems.__name__]
    assert record.levelno == level
    assert bool(record.exc_info) == (level == logging.ERROR)
