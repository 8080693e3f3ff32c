"""Cached views: what shares an answer, what is never kept, and what a client that has the answer gets."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from quart import Quart, Response, make_response, redirect, request, session
from quart.testing.connections import TestHTTPConnection as Connection
from redis.asyncio import Redis
from werkzeug.exceptions import default_exceptions

from app.errors import NotFound
from app.kit.cache.cache import Cache
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from app.web.caching.cached_view import cached_view
from app.web.context import EXTENSION
from tests.kit.cache.cache_support import Counts, cache_on_nothing
from tests.waiting import eventually
from tests.web.identity.session_app import API_KEY, session_app, store_on

ETAG = f'"{hashlib.sha256(b"1").hexdigest()}"'


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def cache(redis: Redis, keys: Keys, counts: Counts) -> Cache:
    return Cache(redis, keys, telemetry=counts)


@pytest.fixture
def app(redis: Redis, keys: Keys, cache: Cache) -> Quart:
    store = store_on(redis, keys)
    app = session_app(store)
    app.config["QUARTET_DEVELOPMENT"] = True
    app.extensions[EXTENSION] = SimpleNamespace(cache=cache, sessions=store, telemetry=NoTelemetry())
    return app


class Runs:
    """A view that answers with the number of its runs, or with what `make` makes of that number."""

    def __init__(self, app: Quart, make: Callable[[int], Any] = str, *, rule: str = "/", **options: Any) -> None:
        self.number = 0
        self.gate = asyncio.Event()
        self.gate.set()

        @cached_view(60, **options)
        async def view(**arguments: Any) -> Any:
            self.number += 1
            number = self.number
            await self.gate.wait()
            made = make(number)
            return await made if asyncio.iscoroutine(made) else made

        app.add_url_rule(rule, f"view {rule}", view, methods=["GET", "POST"])


async def get(app: Quart, path: str = "/", method: str = "GET", **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    client = app.test_client(use_cookies=False)
    call = {"GET": client.get, "POST": client.post}[method]
    return await call(path, headers=sent)


async def body(response: Response) -> str:
    assert response.status_code == 200
    return await response.get_data(as_text=True)


async def test_an_answer_is_kept_with_its_type_and_validators(app: Quart) -> None:
    Runs(app, lambda number: ({"run": number}, 200, {"X-Own": "kept"}))
    first, second = await get(app), await get(app)
    assert await first.get_json() == await second.get_json() == {"run": 1}
    assert [first.headers["X-Cache"], second.headers["X-Cache"]] == ["miss", "hit"]
    for response in (first, second):
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Own"] == "kept"
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["ETag"] == f'"{hashlib.sha256(await response.get_data(as_text=False)).hexdigest()}"'
    assert "Age" not in first.headers
    assert second.headers["Age"] == "0"


async def test_the_way_of_an_answer_is_shown_in_development_only(app: Quart) -> None:
    Runs(app)
    app.config["QUARTET_DEVELOPMENT"] = False
    assert "X-Cache" not in (await get(app)).headers


async def test_a_view_without_a_policy_and_unsafe_methods_always_run(app: Quart) -> None:
    runs = Runs(app)

    async def plain() -> tuple[str, int]:
        return "made", 201

    app.add_url_rule("/plain", "plain", plain)
    assert (await get(app, "/plain")).status_code == 201
    await get(app)
    assert await body(await get(app, method="POST")) == "2"
    assert await body(await get(app)) == "1"
    assert runs.number == 2


class TestKey:
    async def test_host_path_and_declared_parameters_count(self, app: Quart) -> None:
        Runs(app, rule="/<name>", query=["b", "a"])
        paths = ["/x", "/y", "/x?a=1", "/x?a=2", "/x?b=1", "/x?a=", "/x?a=1&a=2", "/x?a=2&a=1", "/x?a=1&b=1"]
        answers = [await body(await get(app, path)) for path in paths]
        assert len(set(answers)) == len(paths)
        assert [await body(await get(app, path)) for path in paths] == answers
        assert await body(await get(app, "/x?b=1&a=1")) == answers[-1]
        assert await body(await get(app, "/x?a=1&utm_source=mail&b=1")) == answers[-1]
        assert await body(await get(app, "/x", Host="127.0.0.1")) not in answers

    async def test_declared_headers_count_and_are_named_in_vary(self, app: Quart) -> None:
        Runs(app, vary=["Accept-Language"])
        german, french, none = (
            await get(app, Accept_Language="de"),
            await get(app, Accept_Language="fr"),
            await get(app),
        )
        assert len({await body(response) for response in (german, french, none)}) == 3
        again = await get(app, Accept_Language="de", User_Agent="other")
        assert await body(again) == await body(german)
        assert again.headers["Vary"] == "Accept-Language"

    async def test_head_is_answered_from_what_get_has_kept(self, app: Quart) -> None:
        runs = Runs(app, lambda _: "text")
        answers = []
        for method in ("HEAD", "GET", "HEAD"):
            # The connection has the headers as they were sent; the test client's responses have some of their own.
            async with app.test_client().request("/", method=method) as connection:
                await connection.send_complete()
            assert isinstance(connection, Connection)
            assert connection.headers is not None
            assert bytes(connection.response_data) == (b"text" if method == "GET" else b"")
            answers.append({n: v for n, v in connection.headers.items() if n not in ("age", "x-cache", "x-request-id")})
        assert runs.number == 2
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["content-length"] == "4"

    async def test_tags_from_arguments_parameters_and_the_answer(self, app: Quart, cache: Cache) -> None:
        runs = Runs(app, rule="/<int:id>", query=["kind"], tags=lambda id, kind: [f"id:{id}", f"kind:{kind}"])
        late = Runs(app, lambda _: "ann", rule="/late", tags=lambda result: result.body.decode())
        await get(app, "/1?kind=a")
        await cache.invalidate_tags("id:2", "kind:b")
        assert await body(await get(app, "/1?kind=a")) == "1"
        await cache.invalidate_tags("kind:a")
        assert await body(await get(app, "/1?kind=a")) == "2"
        await cache.invalidate_tags("id:1")
        await get(app, "/1?kind=a")
        assert runs.number == 3

        async def is_kept() -> bool:
            return (await get(app, "/late")).headers["X-Cache"] == "hit"

        # As soon as the tag, which is known only from the answer, is older than the view takes.
        await eventually(is_kept)
        before = late.number
        await cache.invalidate_tags("ann")
        await get(app, "/late")
        assert late.number == before + 1


async def streamed(_: int) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"piece"

    return Response(stream())


async def with_cookie(number: int) -> Response:
    response = await make_response(str(number))
    assert isinstance(response, Response)
    response.set_cookie("other", "value")
    return response


def with_headers(**headers: str) -> Callable[[int], Any]:
    return lambda number: (str(number), 200, {name.replace("_", "-"): value for name, value in headers.items()})


def remember(number: int) -> str:
    session["number"] = number
    return str(number)


NEVER_KEPT: dict[str, Callable[[int], Any]] = {
    "not found": lambda number: (str(number), 404),
    "redirect": lambda _: redirect("/elsewhere"),
    "partial": lambda number: (str(number), 206),
    "cookie": with_cookie,
    "stream": streamed,
    "private": with_headers(Cache_Control="max-age=5, Private"),
    "no-store": with_headers(Cache_Control="NO-STORE"),
    "vary by anything": with_headers(Vary="*"),
    "vary by what is no part of the key": with_headers(Vary="Accept-Language, Accept-Encoding"),
    "writes the session": remember,
}


class TestNeverKept:
    @pytest.mark.parametrize("make", NEVER_KEPT.values(), ids=NEVER_KEPT)
    @pytest.mark.parametrize("public", [False, True])
    async def test_answers(self, app: Quart, make: Callable[[int], Any], public: bool) -> None:
        runs = Runs(app, make, vary=["Accept-Language"], public=public)
        for _ in range(2):
            response = await get(app)
            assert response.headers["X-Cache"] == "bypass"
            assert "ETag" not in response.headers
        assert runs.number == 2

    async def test_errors(self, app: Quart) -> None:
        def fail(number: int) -> None:
            raise NotFound

        runs = Runs(app, fail)
        assert [(await get(app)).status_code for _ in range(2)] == [404, 404]
        assert runs.number == 2

    @pytest.mark.parametrize("error", [NotFound("None."), default_exceptions[404]("None.")])
    async def test_errors_but_those_whose_status_is_named(self, app: Quart, error: Exception) -> None:
        def fail(number: int) -> None:
            raise error

        runs = Runs(app, fail, status=[200, 404])
        answers = [await get(app) for _ in range(3)]
        assert [response.status_code for response in answers] == [404, 404, 404]
        assert runs.number == 1
        shown = [await response.get_json() for response in answers]
        # Each request has its own id in its body.
        assert [each["request_id"] for each in shown] == [response.headers["X-Request-ID"] for response in answers]
        assert len({each["request_id"] for each in shown}) == 3
        assert {each["detail"] for each in shown} == {"None."}

    async def test_other_statuses_where_they_are_named(self, app: Quart) -> None:
        runs = Runs(app, lambda number: (str(number), 404), status=[404])
        answers = [await get(app) for _ in range(2)]
        assert [response.status_code for response in answers] == [404, 404]
        assert runs.number == 1
        # RFC 9110, 13.2.1: conditions count for what would succeed.
        assert (await get(app, If_None_Match="*")).status_code == 404

    @pytest.mark.parametrize(("name", "value"), [("X_Session_ID", "x"), ("Authorization", "y"), ("API_Key", API_KEY)])
    async def test_requests_with_a_credential_unless_the_view_is_public(
        self, app: Quart, name: str, value: str
    ) -> None:
        Runs(app)
        Runs(app, rule="/public", public=True)
        assert await body(await get(app)) == "1"
        assert await body(await get(app, **{name: value})) == "2"
        assert await body(await get(app, **{name: value})) == "3"
        assert await body(await get(app)) == "1"
        assert await body(await get(app, "/public", **{name: value})) == "1"
        assert await body(await get(app, "/public")) == "1"

    async def test_what_depends_on_the_session_with_and_without_a_cookie(self, app: Quart) -> None:
        runs = Runs(app, lambda _: session.get("name", "nobody"))
        Runs(app, lambda _: session.get("name", "nobody"), rule="/public", public=True)
        Runs(app, rule="/plain")

        async def name_me() -> str:
            session["name"] = "ann"
            return ""

        app.add_url_rule("/name", "name", name_me)
        client = app.test_client()
        await client.get("/name")
        assert await body(await client.get("/")) == "ann"
        assert await body(await get(app)) == "nobody"
        assert await body(await client.get("/")) == "ann"
        assert runs.number == 3
        # A cookie that the view does not look at matters to nobody.
        assert await body(await client.get("/plain")) == await body(await get(app, "/plain")) == "1"
        # Public or not: who looks at the session answers for one browser.
        for _ in range(2):
            assert await body(await client.get("/public")) == "ann"
            assert await body(await get(app, "/public")) == "nobody"

    async def test_headers_of_one_request(self, app: Quart) -> None:
        own = {
            "X-RateLimit-Remaining": "5",
            "RateLimit": '"default";r=5;t=1',
            "RateLimit-Policy": '"default";q=5;w=1',
            "X-Request-ID": "abcdefgh",
            "Retry-After": "1",
            "Date": "Thu, 29 Feb 2024 12:00:00 GMT",
            "Age": "9",
            "Server-Timing": "db;dur=53",
        }
        Runs(app, lambda number: (str(number), 200, own))
        await get(app)
        kept = await get(app)
        assert kept.headers["X-Cache"] == "hit"
        assert kept.headers["Age"] == "0"
        assert not (own.keys() - {"Age"}) & set(kept.headers.keys())


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            (ETAG, 304),
            (f"W/{ETAG}", 304),
            (f'"other", {ETAG}', 304),
            ("*", 304),
            ('"other"', 200),
            ("", 200),
            (ETAG[1:-1], 304),
            ('W/"', 200),
        ],
    )
    async def test_if_none_match(self, app: Quart, condition: str, status: int) -> None:
        runs = Runs(app, public=True)
        await get(app)
        response = await get(app, If_None_Match=condition)
        assert response.status_code == status
        assert runs.number == 1
        assert response.headers["ETag"] == ETAG
        if status == 304:
            assert await response.get_data(as_text=False) == b""
            assert response.headers["Cache-Control"] == "public, no-cache"

    async def test_304_describes_no_body(self, app: Quart) -> None:
        Runs(app, with_headers(ETag=ETAG, Vary="Accept", X_Own="x", Content_Type="text/x-own"), vary=["Accept"])
        response = await get(app, If_None_Match=ETAG)
        assert response.status_code == 304
        assert (response.headers["ETag"], response.headers["Vary"]) == (ETAG, "Accept")
        assert "X-Own" not in response.headers
        assert response.content_type != "text/x-own"

    @pytest.mark.parametrize(
        ("condition", "status"),
        [(ETAG, 200), ("*", 200), (f'"other", {ETAG}', 200), ('"other"', 412), (f"W/{ETAG}", 412), ("", 412)],
    )
    @pytest.mark.parametrize("warm", [False, True])
    async def test_if_match(self, app: Quart, condition: str, status: int, warm: bool) -> None:
        runs = Runs(app, public=True)
        if warm:
            await get(app)
        assert (await get(app, If_Match=condition)).status_code == status
        # It comes before If-None-Match.
        both = await get(app, If_Match=condition, If_None_Match=ETAG)
        assert both.status_code == (304 if status == 200 else 412)
        assert runs.number == 1

    async def test_if_unmodified_since(self, app: Quart) -> None:
        Runs(app, with_headers(Last_Modified="Thu, 29 Feb 2024 12:00:00 GMT"))
        earlier, later = "Thu, 29 Feb 2024 11:59:59 GMT", "Thu, 29 Feb 2024 12:00:01 GMT"
        assert (await get(app, If_Unmodified_Since=earlier)).status_code == 412
        assert (await get(app, If_Unmodified_Since=later)).status_code == 200
        assert (await get(app, If_Unmodified_Since=earlier, If_Match="*")).status_code == 200

    async def test_a_view_without_a_cache_has_conditions_too(self, app: Quart) -> None:
        async def view() -> tuple[str, int, dict[str, str]]:
            return "x", 200, {"ETag": ETAG}

        app.add_url_rule("/plain", "plain", view)
        assert (await get(app, "/plain", If_None_Match=ETAG)).status_code == 304
        assert (await get(app, "/plain", If_Match='"other"')).status_code == 412

    async def test_a_first_request_may_have_a_condition(self, app: Quart) -> None:
        Runs(app)
        assert (await get(app, If_None_Match=ETAG)).status_code == 304
        assert await body(await get(app)) == "1"

    async def test_if_modified_since_counts_where_there_is_no_if_none_match(self, app: Quart) -> None:
        modified, later = "Thu, 29 Feb 2024 12:00:00 GMT", "Thu, 29 Feb 2024 12:00:01 GMT"
        Runs(app, with_headers(Last_Modified=modified))
        earlier = "Thu, 29 Feb 2024 11:59:59 GMT"
        statuses = {
            condition: (await get(app, If_Modified_Since=condition)).status_code
            for condition in (earlier, modified, later, "yesterday", "")
        }
        assert statuses == {earlier: 200, modified: 304, later: 304, "yesterday": 200, "": 200}
        assert (await get(app, If_Modified_Since=later, If_None_Match='"other"')).status_code == 200

    async def test_a_view_may_bring_its_own_validators(self, app: Quart) -> None:
        Runs(app, with_headers(ETag='W/"v7"', Cache_Control="public, max-age=5"))
        assert (await get(app)).headers["ETag"] == 'W/"v7"'
        response = await get(app, If_None_Match='"v7"')
        assert response.status_code == 304
        assert response.headers["Cache-Control"] == "public, max-age=5"


async def test_clients_may_keep_public_answers_for_a_while(app: Quart) -> None:
    Runs(app, public=True, max_age_seconds=30)
    assert (await get(app)).headers["Cache-Control"] == "public, max-age=30"
    Runs(app, rule="/graced", public=True, max_age_seconds=30, grace_seconds=10)
    expected = "public, max-age=30, stale-while-revalidate=10"
    assert (await get(app, "/graced")).headers["Cache-Control"] == expected
    with pytest.raises(ValueError, match="public"):
        cached_view(60, max_age_seconds=30)


async def test_no_cache_runs_the_view_again_where_the_route_lets_it(app: Quart) -> None:
    Runs(app)
    Runs(app, rule="/free", honours_no_cache=True)
    for path, fresh in (("/", "1"), ("/free", "2")):
        assert await body(await get(app, path)) == "1"
        assert await body(await get(app, path, Cache_Control="max-age=0, No-Cache")) == fresh
        assert await body(await get(app, path)) == fresh
    assert await body(await get(app, "/free", Cache_Control="no-store")) == "3"
    assert await body(await get(app, "/free")) == "2"


async def test_many_requests_at_once_run_the_view_once(app: Quart, counts: Counts) -> None:
    runs = Runs(app)
    runs.gate.clear()
    requests = [asyncio.create_task(get(app)) for _ in range(50)]
    await eventually(lambda: counts.total["cache_misses"] == 50)
    runs.gate.set()
    assert [await body(response) for response in await asyncio.gather(*requests)] == ["1"] * 50
    assert runs.number == 1, counts.total


async def test_requests_at_once_never_share_what_is_one_requests_own(app: Quart, counts: Counts) -> None:
    async def own_cookie(_: int) -> Response:
        response = await make_response("text")
        assert isinstance(response, Response)
        response.set_cookie("own", request.headers["X-Who"])
        return response

    runs = Runs(app, own_cookie)
    runs.gate.clear()
    requests = [asyncio.create_task(get(app, X_Who=str(who))) for who in range(5)]
    await eventually(lambda: counts.total["cache_misses"] == 5)
    runs.gate.set()
    cookies = [response.headers["Set-Cookie"].partition(";")[0] for response in await asyncio.gather(*requests)]
    assert cookies == [f"own={who}" for who in range(5)]


async def test_with_redis_down_the_view_runs(app: Quart, keys: Keys, counts: Counts) -> None:
    Runs(app, honours_no_cache=True)
    async with cache_on_nothing(keys, counts) as down:
        app.extensions[EXTENSION].cache = down
        for number, cache_control in enumerate(("", "no-cache"), 1):
            response = await get(app, Cache_Control=cache_control)
            assert await body(response) == str(number)
            assert response.headers["X-Cache"] == "bypass"
            assert response.headers["ETag"]


async def test_an_error_of_one_user_reaches_nobody_else(app: Quart, counts: Counts) -> None:
    """Five visitors wait for the run that a user's request has begun, and that fails in her name."""
    started = asyncio.Event()

    async def personal(_: int) -> str:
        who = session.get("name", "nobody")
        started.set()
        raise NotFound(f"no page for {who}")

    async def name_me() -> str:
        session["name"] = "ann"
        return ""

    runs = Runs(app, personal)
    app.add_url_rule("/name", "name", name_me)
    ann = app.test_client()
    await ann.get("/name")
    runs.gate.clear()
    first = asyncio.create_task(ann.get("/"))
    await eventually(lambda: runs.number == 1)
    others = [asyncio.create_task(get(app)) for _ in range(5)]
    await eventually(lambda: counts.total["cache_misses"] == 6)
    runs.gate.set()
    details = [(await (await respond).get_json(force=True))["detail"] for respond in (first, *others)]
    assert details == ["no page for ann", *["no page for nobody"] * 5]


async def test_a_head_holds_no_get_up(app: Quart, counts: Counts) -> None:
    runs = Runs(app)
    client = app.test_client(use_cookies=False)
    head = await client.head("/")
    assert head.status_code == 200
    assert head.headers["X-Cache"] == "bypass"
    runs.gate.clear()
    heads = [asyncio.create_task(client.head("/"))]
    gets = [asyncio.create_task(get(app)) for _ in range(30)]
    await eventually(lambda: counts.total["cache_misses"] >= 30)
    runs.gate.set()
    bodies = {await body(respond) for respond in await asyncio.gather(*gets)}
    await asyncio.gather(*heads)
    assert len(bodies) == 1
    assert runs.number <= 3
    assert (await client.head("/")).headers["X-Cache"] == "hit"


async def test_what_is_not_stored_is_not_waited_for(app: Quart, counts: Counts) -> None:
    """After an answer that was its own request's alone, all who come at once run the view at once."""
    runs = Runs(app, lambda _: ("not here", 404))
    assert (await get(app)).status_code == 404
    runs.gate.clear()
    asked = [asyncio.create_task(get(app)) for _ in range(20)]
    await eventually(lambda: runs.number == 21)
    runs.gate.set()
    assert {respond.status_code for respond in await asyncio.gather(*asked)} == {404}
    assert counts.total["cache_waits"] == 0


async def test_requests_that_go_past_the_cache_are_counted(app: Quart, counts: Counts) -> None:
    app.extensions[EXTENSION].telemetry = counts
    Runs(app)
    await get(app, X_Session_ID="x")
    assert counts.total["cache_bypassed"] == 1


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"null",
        b"\xff\n",
        b'[200,1.5,[["a"]]]\n',
        b"[" * 5000,
        b"[99999,1.5,[]]\n",
        b"[101,1.5,[]]\n",
        b"[-1,1.5,[]]\n",
        b'[200,1.5,[["Set-Cookie","quartet=stolen"]]]\n',
        b'[200,1.5,[["X-A","a\\r\\nSet-Cookie: b"]]]\n',
        b'[200,1.5,[["X A","a"]]]\n',
    ],
)
async def test_an_answer_that_nobody_of_ours_has_written_is_a_miss(
    app: Quart, redis: Redis, keys: Keys, counts: Counts, forged: bytes
) -> None:
    Runs(app)
    await get(app)
    [name] = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:cache:*")]
    raw = await redis.get(name)
    assert isinstance(raw, bytes)
    envelope, _, value = raw.partition(b"\n")
    await redis.set(name, b"%b\n%b" % (envelope.replace(b",%d," % len(value), b",%d," % len(forged)), forged))
    respond = await get(app)
    assert await body(respond) == "2"
    assert "Set-Cookie" not in respond.headers
    assert counts.total["cache_corrupt"] == 1
