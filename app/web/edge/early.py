"""What a request will ask of Redis, asked at once before the framework is entered; cached answers leave from here."""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from redis.exceptions import RedisError

from app.kit.cache.entry import MISS
from app.kit.cache.model import LoadRequest
from app.kit.limits.limit import Charge
from app.kit.sessions.record import SessionRecord
from app.resources import Resources
from app.web.caching.cached_view import DEVELOPMENT
from app.web.caching.lookup import view_lookup
from app.web.client_address import network_of_client
from app.web.conditions import names_etag
from app.web.context import EXTENSION, EarlySession, Exchange, RawHeaders
from app.web.guard import GuardedQuart
from app.web.identity.session_interface import only_candidate
from app.web.limits.declare import RouteLimits
from app.web.limits.subjects import ADDRESS
from app.web.problems import MEDIA_TYPE
from app.web.ranges import SENT_WITH_304
from app.web.route_policy import FoundPolicy

_SENT_WITH_304 = frozenset(name.encode() for name in SENT_WITH_304)
# Conditions that the layers inside judge.
_OTHER_CONDITIONS = frozenset({b"if-match", b"if-unmodified-since", b"if-modified-since"})
T = TypeVar("T")


class EarlyAnswer(NamedTuple):
    """An answer that needs no view."""

    status: int
    headers: RawHeaders
    body: bytes


async def ask_early(app: GuardedQuart, exchange: Exchange) -> EarlyAnswer | None:
    """Ask for the session, the limits and the cached response of the request, in one batch.

    The answer, where the limits allow it and it is cached; otherwise what was asked waits in the exchange for the
    layers inside.
    """
    found, resources = app.find_policy(exchange), app.extensions.get(EXTENSION)
    if found is None or resources is None:
        return None
    exchange.route = found.rule.rule
    cookies = exchange.cookies(app.config["SESSION_COOKIE_NAME"])
    session_id = None if exchange.has_header_credential else only_candidate(cookies)
    limits, lookup = _limits(exchange, found, has_cookie=bool(cookies)), _lookup(app, exchange, found)
    if lookup is None and limits is None:
        # The session alone is asked for where it is opened.
        return None
    await _ask(app, exchange, resources, limits=limits, session_id=session_id, lookup=lookup)
    is_known = (session_id or not cookies) and (limits or not isinstance(found.policy.limits, RouteLimits))
    if not is_known or not _is_public(exchange, found) or not _is_allowed(exchange, resources):
        return None
    return _cached(app, exchange, resources)


async def _ask(
    app: GuardedQuart,
    exchange: Exchange,
    resources: Resources,
    *,
    limits: RouteLimits | None,
    session_id: str | None,
    lookup: LoadRequest | None,
) -> None:
    """One batch: all commands are issued before the first reply is waited for."""
    session = Started(resources.sessions.get(session_id, channel="cookie")) if session_id else None
    check = Started(resources.limiter.check(_charges(app, exchange, limits))) if limits else None
    try:
        if lookup:
            exchange.early_view = lookup, await resources.cache.read(lookup)
        if check:
            exchange.early_decision = await check
        if session:
            exchange.early_session = await _session(session)
    except BaseException:
        # A defect, or the request was cancelled: what was started does not go on without it.
        for each in (session, check):
            if each:
                await each.end()
        raise


async def _session(asked: Awaitable[SessionRecord | None]) -> EarlySession:
    try:
        return EarlySession(await asked)
    except RedisError as error:
        # Raised and recorded where the session is opened.
        return EarlySession(None, error)


def _limits(exchange: Exchange, found: FoundPolicy, *, has_cookie: bool) -> RouteLimits | None:
    """The limits of the route, where they count the client's address; None where they need to know more."""
    limits = found.policy.limits
    is_visitor = not has_cookie and not exchange.has_header_credential
    if not isinstance(limits, RouteLimits):
        return None
    return limits if (limits.of_visitors if is_visitor else limits.of_addresses) else None


def _charges(app: GuardedQuart, exchange: Exchange, limits: RouteLimits) -> list[Charge]:
    subject = ADDRESS + network_of_client(exchange, app.config)
    return [Charge(limit, subject, cost) for limit, cost in limits.fixed]


def _lookup(app: GuardedQuart, exchange: Exchange, found: FoundPolicy) -> LoadRequest | None:
    cache = found.policy.cache
    if cache is None or exchange.method not in ("GET", "HEAD") or (found.policy.access and not cache.public):
        return None
    if cache.honours_no_cache and b"cache-control" in exchange.headers:
        # The entry may have to be deleted first.
        return None
    return view_lookup(cache, exchange, app, found.rule, found.arguments)


def _is_public(exchange: Exchange, found: FoundPolicy) -> bool:
    """Whether the response may be sent without knowing who asks, and under the conditions that _cached() judges."""
    is_plain = not exchange.has_header_credential and _OTHER_CONDITIONS.isdisjoint(exchange.headers)
    return is_plain and not found.policy.access


def _is_allowed(exchange: Exchange, resources: Resources) -> bool:
    """By the limits; a session that cannot be read, or has to be kept alive, is for the layers inside."""
    session, decision = exchange.early_session, exchange.early_decision
    if session is not None and session.error is not None:
        return False
    if session is not None and session.record is not None and resources.sessions.needs_touch(session.record):
        return False
    return decision is None or decision.allowed


def _cached(app: GuardedQuart, exchange: Exchange, resources: Resources) -> EarlyAnswer | None:
    value = resources.cache.hit(*exchange.early_view) if exchange.early_view else MISS
    if value is MISS or value.status != 200 or ("Content-Type", MEDIA_TYPE) in value.headers:
        # A problem has the id of each request.
        return None
    if exchange.early_decision is not None:
        exchange.decisions.append(exchange.early_decision)
    headers = [(name.lower().encode(), text.encode()) for name, text in value.headers]
    headers.append((b"age", b"%d" % max(0, int(time.time() - value.made_at))))
    if app.config.get(DEVELOPMENT):
        headers.append((b"x-cache", b"hit"))
    stored = dict(value.headers).get("ETag") if b"if-none-match" in exchange.headers else None
    if stored and names_etag(exchange.lines(b"if-none-match"), stored):
        return EarlyAnswer(304, [pair for pair in headers if pair[0] in _SENT_WITH_304], b"")
    headers.append((b"content-length", b"%d" % len(value.body)))
    return EarlyAnswer(200, headers, b"" if exchange.method == "HEAD" else value.body)


class Started(Generic[T]):
    """A coroutine that has run up to its first wait, in the running task; awaiting it runs the rest.

    So commands of several coroutines are issued at once, for a tenth of what a task of its own costs each. What was
    started is to be awaited, or ended, by the same task.
    """

    __slots__ = ("_coroutine", "_error", "_has_ended", "_result", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._has_ended = False
        # A future; None where it only lets other tasks run.
        self._waits_for: Any = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._resume()

    def __await__(self) -> Generator[Any, Any, T]:
        # What it waits for is passed on to the task, which sends None when that is done (PEP 492).
        while not self._has_ended:
            interrupted: BaseException | None = None
            try:
                yield self._waits_for
            except BaseException as error:
                interrupted = error
            self._resume(interrupted)
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result

    async def end(self) -> None:
        """Cancel it where it has not ended, and await its end, whatever it raises."""
        if self._has_ended:
            return
        if self._waits_for is not None:
            self._waits_for.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await self

    def _resume(self, interrupted: BaseException | None = None) -> None:
        """Run up to the next wait. What it raises is for the one that awaits it."""
        resumed = self._coroutine
        try:
            self._waits_for = resumed.send(None) if interrupted is None else resumed.throw(interrupted)
        except StopIteration as ended:
            self._has_ended, self._result = True, ended.value
        except BaseException as error:
            self._has_ended, self._error = True, error
