"""The key of a cached response: made of parsed values and stated hosts, so that clients cannot multiply keys."""

from collections.abc import Collection, Hashable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError
from quart import current_app, request

from app.kit.cache.arguments import encode_arguments
from app.kit.keys import digest
from app.web.host import LOOPBACK_HOSTS

# In app.config: the values of Host under which responses are cached; see app.web.host.stated_hosts().
CACHED_HOSTS = "CACHED_HOSTS"


class Parameters(NamedTuple):
    """The query parameters that a response depends on, by name, for its key and for its tags."""

    for_key: Mapping[str, Any]
    for_tags: Mapping[str, Any]


def parameters(model_class: type[Any] | None, names: Collection[str]) -> Parameters | None:
    """Parsed, where the route validates its query by a model: all spellings of a value are one, and a default left out.

    Otherwise as they were sent, in their order. None for a query that is invalid.
    """
    if model_class is None or not names:
        return Parameters(
            {name: request.args.getlist(name) for name in names}, {name: request.args.get(name) for name in names}
        )
    sent = {name: values if len(values) > 1 else values[0] for name, values in request.args.lists()}
    try:
        model = _adapter(cast(Hashable, model_class)).validate_python(sent)
    except ValidationError:
        return None
    parsed = {name: getattr(model, name) for name in names}
    return Parameters(parsed, parsed)


def is_stated_host() -> bool:
    """Whether the request's Host is one of finitely many: others are answered, and not cached."""
    hosts: Collection[str] = current_app.config.get(CACHED_HOSTS, LOOPBACK_HOSTS)
    return request.host.lower() in hosts


def view_key(found: Parameters, *, arguments: Mapping[str, Any], vary: Collection[str]) -> str:
    """`vary` names headers; repeated ones keep their order. HEAD shares the response to GET: the method is left out."""
    rule = request.url_rule
    # Built anew from the view's arguments: a converter may parse several paths to one value.
    built = rule.build(dict(arguments), append_unknown=False) if rule else None
    headers = [(name.lower(), request.headers.getlist(name)) for name in vary]
    path = built[1] if built else request.path
    return digest(encode_arguments(("view", request.host.lower(), path, dict(found.for_key), headers)))


@lru_cache
def _adapter(model_class: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model_class)
