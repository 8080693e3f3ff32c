"""In development each response says what took its time, and a page shows what the last requests asked."""

import re
import shutil
from pathlib import Path

from quart import Quart

from app.web.recording import MOST_REQUESTS
from tests.application import create_test_app
from tests.domain.client import PASSWORD, Client

PAGE = "/development/requests"


def made(environment: str, sqlite_template: Path, tmp_path: Path) -> Quart:
    path = shutil.copy(sqlite_template, tmp_path / f"{environment}.db")
    return create_test_app({"ENVIRONMENT": environment, "DATABASE_URL": f"sqlite+aiosqlite:///{path}", "CONSUMER": "0"})


async def test_the_last_requests_and_what_they_asked(sqlite_template: Path, tmp_path: Path) -> None:
    app = made("development", sqlite_template, tmp_path)
    async with app.test_app():
        ada = await Client(app).registered()
        answer = await ada.get("/profile")
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]))
        assert timing.keys() == {"redis", "sql", "total"}
        assert 0 < float(timing["redis"]) <= float(timing["total"])
        shown = await (await app.test_client().get(PAGE)).get_data(as_text=True)
        for text in (
            "POST <bdi>/api/v1/login</bdi>",
            "INSERT INTO users",
            "SELECT users.id",
            "EVALSHA {quartet:session:",
        ):
            assert text in shown
        # No values: of statements their parameters, of commands what follows the key.
        for secret in (PASSWORD, "ada@example.com", ada.headers["X-Session-ID"], "argon2"):
            assert secret not in shown
        for number in range(MOST_REQUESTS + 10):
            await Client(app).get(f"/none/{number}")
        await app.test_client().get("/static/quartet.css")
        shown = await (await app.test_client().get(PAGE)).get_data(as_text=True)
        assert shown.count("<bdi>/api/v1/none/") == MOST_REQUESTS
        assert PAGE not in shown.partition("<tbody>")[2]


async def test_elsewhere_there_is_neither(sqlite_template: Path, tmp_path: Path) -> None:
    app = made("testing", sqlite_template, tmp_path)
    async with app.test_app():
        answer = await app.test_client().get(PAGE)
        assert answer.status_code == 404
        assert "Server-Timing" not in answer.headers
        assert "execute_command" not in vars(app.extensions["quartet"].redis)
