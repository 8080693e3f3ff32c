"""A reply that has come, in the place where redis-py's parse_response expects a connection to read it from."""

from typing import Any


class Answered:
    """Lets the plain client's own code turn a raw reply into the command's result."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def read_response(self, **_: Any) -> Any:
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply
