"""Early answers are the answers that the framework gives, and cost one batch of commands."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from quart import Blueprint, Quart, Response, current_app, request, session, url_for
from werkzeug.routing import MapAdapter

from app.domain.slice import Slice
from app.factory import create_app
from app.kit.client.connect import client_stats
from app.kit.keys import Keys
from app.resources import Resources
from app.settings import load_settings
from app.web.caching.cached_view import cached_view
from app.web.context import EXTENSION
from app.web.edge.edge import Edge
from app.web.limits.declare import exempt, rate_limit
from tests.services import RedisServer

pytestmark = pytest.mark.server

PAGE: dict[str, Any] = {"rows": [1, 2, 3]}


def blueprint_of(runs: list[str]) -> Blueprint:
    blueprint = Blueprint("early", __name__)

    def ran() -> dict[str, Any]:
        runs.append(request.path)
        return PAGE

    @blueprint.get("/limited")
    @rate_limit("3/minute")
    @cached_view(60, public=True, tags="pages", vary=["Accept-Language"])
    async def limited() -> dict[str, Any]:
        return ran()

    @blueprint.get("/own/<int:number>")
    @exempt("asked as often as the table of cases needs")
    @cached_view(60, tags=lambda number: f"page:{number}", query=["kind"])
    async def own(number: int) -> dict[str, Any]:
        return ran() | {"number": number, "kind": request.args.get("kind")}

    @blueprint.get("/mine")
    @exempt("asked as often as the table of cases needs")
    @cached_view(60, public=True)
    async def mine() -> dict[str, Any]:
        return ran() | {"draft": session.get("draft")}

    @blueprint.get("/matched/<int:number>")
    @exempt("asked as often as the table of cases needs")
    async def matched(number: int) -> dict[str, Any]:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None
        found = [adapter.match("/own/3"), adapter.match()]
        return ran() | {"number": number, "found": found, "link": url_for("early.own", number=4)}

    # Two views of one path: Werkzeug takes the first.
    @blueprint.get("/twice")
    @rate_limit("2/minute")
    @cached_view(60, public=True)
    async def first() -> dict[str, Any]:
        return ran() | {"name": "first"}

    @blueprint.get("/twice")
    @rate_limit("100/minute")
    @cached_view(60, public=True)
    async def second() -> dict[str, Any]:
        return ran() | {"name": "second"}

    return blueprint


@pytest.fixture(params=[True, False], ids=["early", "inside"])
async def app(
    request: pytest.FixtureRequest,
    runs: list[str],
    redis_server: RedisServer,
    keys: Keys,
    sqlite_template: Path,
    tmp_path: Path,
) -> AsyncIterator[Quart]:
    """The whole service; its parameter is whether the edge asks and answers early."""
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "REDIS_URL": redis_server.url,
        "CONSUMER": "0",
        # A loaded machine may answer late.
        "REDIS_BUDGET_MS": "5000",
    }
    created = create_app(load_settings(environ), slices=(Slice(blueprint=blueprint_of(runs)),))
    assert isinstance(created.asgi_app, Edge)
    created.asgi_app.asks_early = request.param
    async with created.test_app():
        yield created


@pytest.fixture
def runs() -> list[str]:
    return []


async def get(app: Quart, path: str, method: Literal["GET", "HEAD"] = "GET", **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    client = app.test_client(use_cookies=False)
    return await (client.get if method == "GET" else client.head)(path, headers=sent)


def shown(response: Response) -> dict[str, str]:
    varying = {"x-request-id", "x-ratelimit-reset", "ratelimit", "date"}
    return {name.lower(): value for name, value in response.headers if name.lower() not in varying}


async def test_a_hit_is_the_answer_of_the_miss(app: Quart, runs: list[str]) -> None:
    first, second = await get(app, "/limited"), await get(app, "/limited")
    assert await first.get_json() == await second.get_json() == PAGE
    assert runs == ["/limited"]
    assert shown(second) == shown(first) | {"age": "0", "x-ratelimit-remaining": "1"}
    assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    await get(app, "/limited")
    refused = await get(app, "/limited")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await refused.get_json())["violated-policies"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": "{}"}, 304),
        ({"If_None_Match": "W/{}"}, 304),
        ({"If_None_Match": '"other", {}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_None_Match": "junk"}, 200),
        ({"If_Match": "{}"}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"API_Key": "junk"}, 200),
        ({"API_Key": "junk", "X_Session_ID": "junk"}, 400),
        ({"Cookie": "quartet=junk"}, 200),
        ({"Host": "elsewhere.example"}, 400),
        ({"Accept_Language": "de"}, 200),
    ],
)
async def test_what_a_stored_answer_is_made_of(app: Quart, headers: dict[str, str], status: int) -> None:
    etag = (await get(app, "/own/1")).headers["ETag"]
    sent = {name: value.replace("{}", etag) for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        answer = await get(app, "/own/1", method=method, **sent)
        assert answer.status_code == status
        if status == 304:
            assert answer.headers["ETag"] == etag
            assert await answer.get_data(as_text=False) == b""
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_each_request_has_the_answer_of_its_own(app: Quart, runs: list[str]) -> None:
    asked = ("/own/1", "/own/2", "/own/1?kind=a", "/own/1?kind=b")
    for _ in range(2):
        bodies = [await (await get(app, path)).get_json() for path in asked]
        assert [(body["number"], body["kind"]) for body in bodies] == [(1, None), (2, None), (1, "a"), (1, "b")]
    assert len(runs) == 4
    resources: Resources = app.extensions[EXTENSION]
    await resources.cache.invalidate_tags("page:1")
    for path in asked:
        await get(app, path)
    assert len(runs) == 7
    await get(app, "/limited", Accept_Language="de")
    await get(app, "/limited", Accept_Language="en")
    assert runs.count("/limited") == 2


async def test_an_answer_that_read_the_session_is_no_one_elses(app: Quart, runs: list[str]) -> None:
    resources: Resources = app.extensions[EXTENSION]
    for draft in ("one", "two", "one"):
        record = await resources.sessions.create({"draft": draft}, channel="cookie")
        cookie = f"{app.config['SESSION_COOKIE_NAME']}={record.id}"
        for _ in range(2):
            answer = await get(app, "/mine", Cookie=cookie)
            assert (await answer.get_json())["draft"] == draft
            assert answer.headers["Vary"] == "Cookie"
    assert len(runs) == 6


async def test_session_limit_and_cache_are_one_batch(app: Quart, runs: list[str]) -> None:
    resources: Resources = app.extensions[EXTENSION]
    record = await resources.sessions.create({"draft": "mine"}, channel="cookie")
    cookie = f"{app.config['SESSION_COOKIE_NAME']}={record.id}"
    await get(app, "/limited")

    def batches() -> int:
        return int(client_stats(resources.redis)["server"]["batches"])

    costs = []
    for _ in range(2):
        before = batches()
        assert (await get(app, "/limited", Cookie=cookie)).status_code == 200
        costs.append(batches() - before)
    assert runs == ["/limited"]
    assert isinstance(app.asgi_app, Edge)
    assert min(costs) == (1 if app.asgi_app.asks_early else 3)


async def test_what_was_asked_early_serves_the_view(app: Quart, runs: list[str]) -> None:
    """A miss: the session and the limit are not asked for again."""
    resources: Resources = app.extensions[EXTENSION]
    record = await resources.sessions.create({"draft": "mine"}, channel="cookie")
    cookie = f"{app.config['SESSION_COOKIE_NAME']}={record.id}"
    remaining = [
        (await get(app, "/limited", Cookie=cookie, Accept_Language=each)).headers["X-RateLimit-Remaining"]
        for each in ("de", "en", "fr")
    ]
    assert remaining == ["2", "1", "0"]
    assert len(runs) == 3


async def test_hooks_of_the_application_run_for_each_request(app: Quart, runs: list[str]) -> None:
    @app.after_request
    async def mark(response: Response) -> Response:
        response.headers["X-Marked"] = "yes"
        return response

    for _ in range(2):
        assert (await get(app, "/own/1")).headers["X-Marked"] == "yes"
    assert len(runs) == 1


async def test_a_route_is_searched_for_once(app: Quart, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The table of the plain routes is made with the first request.
    await get(app, "/own/1")
    searched: list[str] = []
    search = MapAdapter.match

    def counted(self: MapAdapter, path_info: str | None = None, *args: Any, **named: Any) -> Any:
        searched.append(path_info or self.path_info)
        return search(self, path_info, *args, **named)

    monkeypatch.setattr(MapAdapter, "match", counted)
    answer = await get(app, "/matched/7")
    assert (await answer.get_json())["number"] == 7
    # Once for the request; what the view looks for itself is found as ever.
    assert searched == ["/matched/7", "/own/3", "/matched/7"]
    assert (await answer.get_json())["found"] == [["early.own", {"number": 3}], ["early.matched", {"number": 7}]]
    assert (await answer.get_json())["link"] == "/own/4"


async def test_of_two_views_of_one_path_the_same_one_answers(app: Quart, runs: list[str]) -> None:
    answers = [await get(app, "/twice") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [(await answer.get_json())["name"] for answer in answers[:2]] == ["first", "first"]
    assert len(runs) == 1


async def test_a_defect_of_what_is_asked_early_is_answered_like_any_other(
    app: Quart, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the commands that were started beside it have ended: their connection serves the next request."""
    resources: Resources = app.extensions[EXTENSION]
    record = await resources.sessions.create({"draft": "mine"}, channel="cookie")
    cookie = f"{app.config['SESSION_COOKIE_NAME']}={record.id}"

    async def fail(*_: object) -> None:
        raise KeyError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(resources.cache, "read", fail)
        patch.setattr(resources.cache, "load", fail)
        patch.setattr(resources.cache, "look", fail)
        failed = await get(app, "/limited", Cookie=cookie)
    assert failed.status_code == 500
    assert (await failed.get_json())["request_id"] == failed.headers["X-Request-ID"]
    assert (await get(app, "/limited", Cookie=cookie)).status_code == 200
    assert runs == ["/limited"]
