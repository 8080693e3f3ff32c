"""The conditions that a client sets for a write: If-Match and If-None-Match (RFC 9110, 13.1)."""

from collections.abc import Callable
from dataclasses import dataclass

from quart import request
from werkzeug.datastructures import ETags, Headers
from werkzeug.http import parse_etags

from app.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class WriteCondition:
    """The states that a write may replace, and those that it may not. None: the client has not set this condition."""

    if_match: ETags | None = None
    if_none_match: ETags | None = None

    def require(self, state: str) -> None:
        """PreconditionFailed where the conditions do not hold for the current state, which has this strong ETag."""
        match, none_match = self.if_match, self.if_none_match
        if match is not None and not (match.star_tag or match.is_strong(state)):
            raise PreconditionFailed("It has been changed since.")
        if none_match is not None and (none_match.star_tag or none_match.contains_weak(state)):
            raise PreconditionFailed("If-None-Match names the current state.")


UNCONDITIONAL = WriteCondition()


def only_state(state: str) -> WriteCondition:
    """The condition of a form, which sends the state that its reader saw as a field."""
    return WriteCondition(if_match=ETags([state]))


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
