"""@cached_view, and respond(), which answers with a view's stored response where there is one (RFC 9111)."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from flask.sansio.scaffold import Scaffold
from quart import Quart, Response, current_app, request
from redis.exceptions import RedisError
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from app.errors import AppError
from app.kit.cache.arguments import TagRule, Tags
from app.kit.cache.entry import MISS
from app.kit.cache.model import BLOCK, CacheResult, CacheStatus, DoNotStore, EarlyLookup, LoadRequest
from app.kit.client.errors import record_failure
from app.kit.durations import check_seconds
from app.web.caching.lookup import ViewCache, view_lookup
from app.web.caching.stored_response import (
    StoredResponse,
    cache_directives,
    to_stored_response,
)
from app.web.context import exchange, resources
from app.web.declarations import DeclarationError, ViewT, attach, declared
from app.web.identity.browser_session import current_browser_session
from app.web.problems import MEDIA_TYPE, answer_error, status_of, with_request_id

DEVELOPMENT = "QUARTET_DEVELOPMENT"
Run = Callable[[], Awaitable[Response]]
Compute = Callable[[], Awaitable[StoredResponse | DoNotStore[Response | Exception]]]


def cached_view(
    ttl_seconds: float,
    *,
    tags: Tags = (),
    query: Collection[str] = (),
    vary: Collection[str] = (),
    public: bool = False,
    status: Collection[int] = (200,),
    grace_seconds: float = 0.0,
    max_age_seconds: int = 0,
    honours_no_cache: bool = False,
) -> Callable[[ViewT], ViewT]:
    """Cache a route's responses by host, path, the parameters in `query` and the request headers in `vary`.

    The view must read no other parameter or header. Parameters that the route validates count as they are parsed, and
    only stated hosts have cached responses. `status` names what is stored, raised errors too. Unless `public`, requests
    with a credential bypass the cache. A response that depends on the browser's session is not stored. `tags` may be a
    function of the view's arguments and the parameters in `query`, by name, or of `result`, the StoredResponse. For
    `grace_seconds` after `ttl_seconds` a response is served while the view runs again, unless a tag was invalidated.
    Clients may reuse it for `max_age_seconds` and that grace; `honours_no_cache` lets them have the view run again.
    """
    if isinstance(query, str) or isinstance(vary, str):
        raise TypeError("query and vary are collections of names")
    if not status or not all(type(each) is int and 200 <= each <= 599 for each in status):
        raise ValueError(f"the status of a stored response is 200 to 599, not {status!r}")
    if max_age_seconds and not public:
        raise ValueError("max_age_seconds needs public=True: other responses change when the user signs in")
    policy = ViewCache(
        ttl_seconds=check_seconds("ttl_seconds", ttl_seconds),
        grace_seconds=check_seconds("grace_seconds", grace_seconds, least=0),
        tags=TagRule(tags),
        query=tuple(sorted(query)),
        vary=tuple(sorted(vary)),
        public=public,
        status=frozenset(status),
        max_age_seconds=int(check_seconds("max_age_seconds", max_age_seconds, least=0)),
        honours_no_cache=honours_no_cache,
    )

    def decorate(view: ViewT) -> ViewT:
        if isinstance(view, Scaffold) or declared(view, ViewCache):
            raise DeclarationError(f"@cached_view is for a view or a class of views, once, not {view!r}")
        return attach(view, policy, decorator="@cached_view")

    return decorate


async def respond(policy: ViewCache, run: Run, arguments: Mapping[str, Any]) -> Response:
    """The response to a GET or HEAD, from the cache where its policy allows it, or of the view that `run` runs.

    An error that the view raises is stored where `status` names its status.
    """
    response, status = await _cached(policy, run, arguments)
    if current_app.config.get(DEVELOPMENT):
        response.headers["X-Cache"] = status
    return response


async def _cached(policy: ViewCache, run: Run, arguments: Mapping[str, Any]) -> tuple[Response, CacheStatus]:
    asked = exchange()
    lookup, early = asked.early_view or (None, None)
    if lookup is None:
        app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
        lookup = view_lookup(policy, asked, app, request.url_rule, arguments)
    if lookup is None or _is_personal(policy):
        resources().telemetry.count("cache_bypassed", name=request.endpoint or "unnamed")
        return await run(), "bypass"

    async def compute() -> StoredResponse | DoNotStore[Response | Exception]:
        try:
            response = await run()
        except Exception as error:
            if _depends_on_session(policy):
                # The error's text may be for this request's user only.
                return DoNotStore(error)
            if not isinstance(error, AppError | HTTPException) or status_of(error) not in policy.status:
                raise
            response = await answer_error(error)
        return await _to_stored_response(policy, response) or DoNotStore(response)

    lookup.compute = compute
    if early is None and policy.honours_no_cache and "no-cache" in cache_directives(asked.lines(b"cache-control")):
        await _discard(lookup)
    value, status = await _load(lookup, early)
    if isinstance(value, Exception):
        raise value
    return _response(value, status) if isinstance(value, StoredResponse) else value, status


async def _load(lookup: LoadRequest, early: EarlyLookup | None) -> CacheResult:
    cache = resources().cache
    if request.method == "GET":
        return await cache.load(lookup, early)
    # A view may leave out the body of a response to HEAD, so that only GET stores; but HEAD reads what GET stored.
    found = await cache.look(lookup, early)
    if found.value is not MISS:
        return found
    computed = await lookup.compute()
    return CacheResult(computed.value if isinstance(computed, DoNotStore) else computed, "bypass")


async def _discard(lookup: LoadRequest) -> None:
    try:
        await resources().cache.discard(lookup)
    except RedisError as error:
        # Fails open: without Redis the view runs in any case.
        record_failure(error, block=BLOCK, telemetry=resources().telemetry)


async def _to_stored_response(policy: ViewCache, response: Response) -> StoredResponse | None:
    if response.status_code not in policy.status or _depends_on_session(policy):
        return None
    return await to_stored_response(response, cache_control=policy.cache_control, vary=policy.vary)


def _is_personal(policy: ViewCache) -> bool:
    """Whether the response depends on the user, as far as is known before the view runs."""
    browser = current_browser_session()
    return not policy.public and (exchange().has_header_credential or (browser is not None and browser.used))


def _depends_on_session(policy: ViewCache) -> bool:
    """Whether the view has read or changed the session: then its response is for one browser, even on a public route.

    The cookie of a changed session is added later, so that the response does not show it yet.
    """
    browser = current_browser_session()
    return _is_personal(policy) or (browser is not None and (browser.used or browser.modified))


def _response(stored: StoredResponse, status: CacheStatus) -> Response:
    """The response to this request: a problem with its own id, and no body for HEAD."""
    headers = Headers(stored.headers)
    if status in ("hit", "stale"):
        headers["Age"] = str(max(0, int(time.time() - stored.made_at)))
    body = with_request_id(stored.body) if headers.get("Content-Type") == MEDIA_TYPE else stored.body
    response = Response(body, status=stored.status, headers=headers)
    if request.method == "HEAD":
        response.set_data(b"")
        response.content_length = len(body)
    return response
