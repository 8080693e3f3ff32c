"""How a task ends other than by its result: what a handler raises, and what its waiter gets."""

from datetime import timedelta

from app.kit.tasks.model import seconds_of, validate_seconds


class Retry(Exception):
    """Raised by a handler: try again `after` (by default the task's own delay). The attempt is spent."""

    def __init__(self, reason: str = "asked to be tried again", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = None if after is None else validate_seconds(seconds_of(after), "after")

    def __reduce__(self) -> tuple[object, ...]:
        return _retry, (str(self), self.after_seconds)


def _retry(reason: str, after_seconds: float | None) -> Retry:
    return Retry(reason, after=after_seconds)


class Fail(Exception):
    """Raised by a handler: another attempt would fail too. The task is kept as a dead letter, with this reason."""


class Undecodable(Exception):
    """A payload that is not of its task's type, or a value that JSON cannot express."""


class TaskFailed(Exception):
    """The task that was waited for is a dead letter; the text is its error."""

    def __init__(self, task_id: str, error: str, traceback: str | None = None) -> None:
        super().__init__(f"{task_id}: {error}")
        self.task_id, self.error, self.traceback = task_id, error, traceback


class TaskAborted(Exception):
    """The task that was waited for was aborted, or expired before it could start."""


class TaskUnknown(Exception):
    """The queue does not know the id: never accepted, or ended more than its task's `keep_seconds` ago."""
