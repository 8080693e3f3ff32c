"""How a route's responses are cached, and what the cache is asked for a request: by the edge, or before the view runs.

A key is made of parsed values and stated hosts: clients cannot multiply keys.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError
from quart import Quart
from werkzeug.routing import Rule

from app.kit.cache.arguments import TagRule, encode_arguments
from app.kit.cache.model import LoadRequest
from app.kit.keys import digest
from app.resources import Resources
from app.web.caching.stored_response import RESPONSE_CODEC, StoredResponse, cache_directives
from app.web.context import EXTENSION, Exchange
from app.web.host import LOOPBACK_HOSTS

# In app.config: the values of Host under which responses are cached; see app.web.host.stated_hosts().
CACHED_HOSTS = "CACHED_HOSTS"
MOST_KNOWN_KEYS = 512
LONGEST_KNOWN_REQUEST = 512


class Parameters(NamedTuple):
    """The query parameters that a response depends on, by name, for its key and for its tags."""

    for_key: Mapping[str, Any]
    for_tags: Mapping[str, Any]


NO_PARAMETERS = Parameters({}, {})


@dataclass(frozen=True, slots=True)
class ViewCache:
    """How the responses of a route are cached; see cached_view()."""

    ttl_seconds: float
    grace_seconds: float
    tags: TagRule
    query: tuple[str, ...]
    vary: tuple[str, ...]
    public: bool
    status: frozenset[int]
    max_age_seconds: int
    honours_no_cache: bool
    # What the route validates its query by; known when its policy is compiled.
    query_model: type[Any] | None = None
    # The keys of requests that are answered often.
    known: dict[tuple[Any, ...], str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def cache_control(self) -> str:
        """Without `max_age_seconds` clients validate each time, because invalidation does not reach their caches."""
        scope = "public" if self.public else "private"
        if not self.max_age_seconds:
            return f"{scope}, no-cache"
        # RFC 5861, 3.
        grace = f", stale-while-revalidate={int(self.grace_seconds)}" if self.grace_seconds >= 1 else ""
        return f"{scope}, max-age={self.max_age_seconds}{grace}"


def view_lookup(
    policy: ViewCache, asked: Exchange, app: Quart, rule: Rule | None, arguments: Mapping[str, Any]
) -> LoadRequest | None:
    """What the cache is asked for this request; None where the response must not come from it.

    Its `compute` is still to be set. The request alone decides, so that the edge can ask before a view is chosen.
    """
    directives = cache_directives(asked.lines(b"cache-control")) if policy.honours_no_cache else frozenset()
    hosts: Collection[str] = app.config.get(CACHED_HOSTS, LOOPBACK_HOSTS)
    if asked.host not in hosts or "no-store" in directives or (asked.has_header_credential and not policy.public):
        return None
    found = parameters(asked, policy.query_model, policy.query)
    if found is None:
        # An invalid query is refused by the view itself.
        return None
    resources: Resources = app.extensions[EXTENSION]
    return resources.cache.request(
        _key(policy, asked, rule, found, arguments),
        _never,
        ttl_seconds=policy.ttl_seconds,
        tags=policy.tags.tags({**found.for_tags, **arguments}),
        grace_seconds=policy.grace_seconds,
        codec=RESPONSE_CODEC,
        name=rule.endpoint if rule else "unnamed",
    )


def _key(policy: ViewCache, asked: Exchange, rule: Rule | None, found: Parameters, arguments: Mapping[str, Any]) -> str:
    """view_key(), made once of requests that are the same. What a model parses may depend on the time."""
    vary = [asked.lines(name.lower().encode()) for name in policy.vary]
    if policy.query or sum(map(len, chain([asked.path], *vary))) > LONGEST_KNOWN_REQUEST:
        return view_key(asked, rule, found, arguments=arguments, vary=policy.vary)
    sent = (rule.endpoint if rule else "", asked.path, asked.host, *map(tuple, vary))
    key = policy.known.get(sent)
    if key is None:
        if len(policy.known) >= MOST_KNOWN_KEYS:
            policy.known.clear()
        key = policy.known[sent] = view_key(asked, rule, found, arguments=arguments, vary=policy.vary)
    return key


async def _never() -> StoredResponse:
    raise AssertionError("a lookup whose compute was not set")


def parameters(asked: Exchange, model_class: type[Any] | None, names: Collection[str]) -> Parameters | None:
    """Parsed, where the route validates its query by a model: all spellings of a value are one, and a default left out.

    Otherwise as they were sent, in their order. None for a query that is invalid.
    """
    if not names:
        return NO_PARAMETERS
    args = asked.args
    if model_class is None:
        return Parameters({name: args.getlist(name) for name in names}, {name: args.get(name) for name in names})
    sent = {name: values if len(values) > 1 else values[0] for name, values in args.lists()}
    try:
        model = _adapter(cast(Hashable, model_class)).validate_python(sent)
    except ValidationError:
        return None
    parsed = {name: getattr(model, name) for name in names}
    return Parameters(parsed, parsed)


def view_key(
    asked: Exchange, rule: Rule | None, found: Parameters, *, arguments: Mapping[str, Any], vary: Collection[str]
) -> str:
    """`vary` names headers; repeated ones keep their order. HEAD shares the response to GET: the method is left out."""
    # Built anew from the view's arguments: a converter may parse several paths to one value.
    built = rule.build(dict(arguments), append_unknown=False) if rule else None
    headers = [(name.lower(), asked.lines(name.lower().encode())) for name in vary]
    path = built[1] if built else asked.path
    return digest(encode_arguments(("view", asked.host, path, dict(found.for_key), headers)))


@lru_cache
def _adapter(model_class: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model_class)
