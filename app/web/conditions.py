"""The conditions of a request: If-Match and If-None-Match (RFC 9110, 13.1)."""

from collections.abc import Callable

from quart import request
from werkzeug.datastructures import ETags, Headers
from werkzeug.http import parse_etags

from app.preconditions import WriteCondition


def write_condition(state_of: Callable[[str], str] = str) -> WriteCondition:
    """The condition of the current request. `state_of` maps an ETag to what WriteCondition.require() gets."""
    return WriteCondition(*(_states(name, state_of) for name in ("If-Match", "If-None-Match")))


def sent_etags(headers: Headers, name: str) -> ETags:
    """The list of a header, which may have several lines (RFC 9110, 5.3)."""
    return parse_etags(", ".join(headers.getlist(name)))


def _states(name: str, state_of: Callable[[str], str]) -> ETags | None:
    if name not in request.headers:
        return None
    sent = sent_etags(request.headers, name)
    # Werkzeug reads the empty ETag as None. No state has it.
    strong = {tag for tag in sent.as_set() if tag}
    weak = {tag for tag in sent.as_set(include_weak=True) if tag} - strong
    return ETags(map(state_of, strong), map(state_of, weak), sent.star_tag)
