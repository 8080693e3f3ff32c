"""Keys whose last value was not to be stored: for a moment nobody waits for anybody to compute the next one."""

import time
from collections import OrderedDict

PASS_SECONDS = 2.0
MAX_KEYS = 10_000


class HitForPass:
    """What HTTP caches call hit-for-pass. Where nothing will be stored, waiting for a run of another's is in vain, and
    those who wait would come to their own runs one after the other.
    """

    def __init__(self, *, seconds: float = PASS_SECONDS) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()

    def is_marked(self, entry: str) -> bool:
        until = self._until.get(entry)
        if until is None:
            return False
        if until > time.monotonic():
            return True
        del self._until[entry]
        return False

    def mark(self, entry: str) -> None:
        self._until[entry] = time.monotonic() + self._seconds
        self._until.move_to_end(entry)
        if len(self._until) > MAX_KEYS:
            self._until.popitem(last=False)

    def clear(self, entry: str) -> None:
        self._until.pop(entry, None)
