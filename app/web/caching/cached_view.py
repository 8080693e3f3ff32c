"""@cached_view, and answer(), which gives a view's kept answer in place of running it (RFC 9110, RFC 9111)."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from quart import Response, current_app, request, session
from redis.exceptions import RedisError
from werkzeug.datastructures import Headers

from app.kit.cache.arguments import encode_arguments
from app.kit.cache.model import CacheResult, CacheStatus, Uncacheable
from app.kit.cache.tags import TagRule, Tags
from app.kit.keys import digest
from app.web.caching.conditional import is_unchanged, not_modified
from app.web.caching.stored_response import RESPONSE_CODEC, StoredResponse, cache_directives, to_stored_response
from app.web.context import resources
from app.web.identity.browser_session import BrowserSession, has_header_credential
from app.web.route_policy import View, ViewT, attach, policy_of

DEVELOPMENT = "QUARTET_DEVELOPMENT"


@dataclass(frozen=True, slots=True)
class ViewCache:
    """How the answers of a route are cached; see cached_view()."""

    ttl_seconds: float
    grace_seconds: float
    tags: TagRule
    query: tuple[str, ...]
    vary: tuple[str, ...]
    public: bool
    status: frozenset[int]
    max_age_seconds: int
    honours_no_cache: bool

    @property
    def cache_control(self) -> str:
        """Clients ask each time, which costs them a 304, unless told otherwise: tags do not reach their caches."""
        who = "public" if self.public else "private"
        if not self.max_age_seconds:
            return f"{who}, no-cache"
        # RFC 5861, 3: what we serve past its time, a client may, too.
        grace = f", stale-while-revalidate={int(self.grace_seconds)}" if self.grace_seconds >= 1 else ""
        return f"{who}, max-age={self.max_age_seconds}{grace}"


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
    """Keep a route's answers by host, path, the parameters in `query` and the request headers in `vary`.

    The view must read no other parameter or header. Unless `public`, requests with a credential go past the cache,
    and what depends on the browser's session is not kept. `tags` may be a function of the view's arguments and the
    parameters in `query`, by name, or of `result`, the StoredResponse. For `grace_seconds` past its time a response
    serves while the view runs anew, unless a tag was invalidated. Clients keep a response for `max_age_seconds` and
    that grace; `honours_no_cache` lets them have the view run again.
    """
    if max_age_seconds and not public:
        raise ValueError("only public answers may be kept by clients unasked: others change when somebody signs in")
    policy = ViewCache(
        ttl_seconds=ttl_seconds,
        grace_seconds=grace_seconds,
        tags=TagRule(tags),
        query=tuple(sorted(query)),
        vary=tuple(sorted(vary)),
        public=public,
        status=frozenset(status),
        max_age_seconds=max_age_seconds,
        honours_no_cache=honours_no_cache,
    )
    return lambda view: attach(view, policy)


async def respond(view: View, arguments: Mapping[str, Any]) -> Response:
    """The view's answer, from the cache where its policy allows that. Errors that the view raises are never kept."""
    policy = policy_of(view, ViewCache)
    if policy is None or request.method not in ("GET", "HEAD"):
        return await _run(view, arguments)
    response, status = await _cached(policy, view, arguments)
    if current_app.config.get(DEVELOPMENT):
        response.headers["X-Cache"] = status
    return response


async def _cached(policy: ViewCache, view: View, arguments: Mapping[str, Any]) -> tuple[Response, CacheStatus]:
    directives = cache_directives(request.headers) if policy.honours_no_cache else frozenset()
    if _is_personal(policy) or "no-store" in directives:
        resources().telemetry.count("cache_bypassed", name=request.endpoint or "unnamed")
        return await _run(view, arguments), "bypass"
    key, own = _key(policy), list[Response | Exception]()
    if "no-cache" in directives:
        with suppress(RedisError):  # fails open: fetch() finds Redis down, too, and runs the view
            await resources().cache.delete(key)

    async def compute() -> StoredResponse:
        try:
            response = await _run(view, arguments)
        except Exception as error:
            if not _depends_on_session(policy):
                raise
            # What the error says may be for this request's user alone.
            own.append(error)
            raise Uncacheable from error
        kept = await _to_stored_response(policy, response)
        if kept is None:
            own.append(response)
            raise Uncacheable
        return kept

    try:
        found = await _fetch(policy, key, compute, arguments)
    except Uncacheable:
        # Where the run was another request's, its answer was that request's alone.
        return await _own_answer(policy, view, arguments, own), "bypass"
    return _response(found.value, found.status), found.status


async def _own_answer(
    policy: ViewCache, view: View, arguments: Mapping[str, Any], own: list[Response | Exception]
) -> Response:
    response = own[0] if own else await _run(view, arguments)
    if isinstance(response, Exception):
        raise response
    # HEAD fills no cache, but says what GET would.
    kept = await _to_stored_response(policy, response) if request.method == "HEAD" else None
    return _response(kept, "bypass") if kept else response


async def _fetch(
    policy: ViewCache, key: str, compute: Callable[[], Awaitable[StoredResponse]], arguments: Mapping[str, Any]
) -> CacheResult:
    parameters = {name: request.args.get(name) for name in policy.query}
    return await resources().cache.fetch(
        key,
        compute,
        ttl_seconds=policy.ttl_seconds,
        tags=policy.tags.tags({**parameters, **arguments}),
        grace_seconds=policy.grace_seconds,
        codec=RESPONSE_CODEC,
        name=request.endpoint or "unnamed",
        # A view that is asked by HEAD may leave its body out, so only GET fills the cache.
        fills=request.method == "GET",
    )


def _key(policy: ViewCache) -> str:
    """Repeated parameters and headers keep their order. HEAD shares the answer to GET, so the method is left out."""
    parameters = [(name, request.args.getlist(name)) for name in policy.query]
    headers = [(name.lower(), request.headers.getlist(name)) for name in policy.vary]
    return digest(encode_arguments(("view", request.host.lower(), request.path, parameters, headers)))


async def _run(view: View, arguments: Mapping[str, Any]) -> Response:
    result = await current_app.ensure_async(view)(**arguments)
    # A Werkzeug response, such as a redirect's, is passed on as it is.
    return cast(Response, await current_app.make_response(result))


async def _to_stored_response(policy: ViewCache, response: Response) -> StoredResponse | None:
    if response.status_code not in policy.status or _depends_on_session(policy):
        return None
    return await to_stored_response(response, cache_control=policy.cache_control, vary=policy.vary)


def _is_personal(policy: ViewCache) -> bool:
    """Whether the answer depends on who asks, as far as is known yet."""
    browser = _browser_session()
    return not policy.public and (has_header_credential(request.headers) or (browser is not None and browser.used))


def _depends_on_session(policy: ViewCache) -> bool:
    """Whether the view has looked at the session, or changed it (its cookie is added only after this): then its answer
    is for one browser, though the route be public."""
    browser = _browser_session()
    return _is_personal(policy) or (browser is not None and (browser.used or browser.modified))


def _browser_session() -> BrowserSession | None:
    found = session._get_current_object()  # type: ignore[attr-defined]
    return found if isinstance(found, BrowserSession) else None


def _response(kept: StoredResponse, status: CacheStatus) -> Response:
    """The answer for this request: 304 where the client has it already, and no body for HEAD."""
    headers = Headers(kept.headers)
    if status in ("hit", "stale"):
        headers["Age"] = str(max(0, int(time.time() - kept.made_at)))
    if kept.status == 200 and is_unchanged(request, headers):
        return not_modified(headers)
    response = Response(kept.body, status=kept.status, headers=headers)
    if request.method == "HEAD":
        response.set_data(b"")
        response.content_length = len(kept.body)
    return response
