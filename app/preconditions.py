"""What a write requires of the present state, by If-Match and If-None-Match (RFC 9110, 13.1), without Quart."""

from dataclasses import dataclass

from werkzeug.datastructures import ETags

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
