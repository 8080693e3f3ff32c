"""How the code of redis-py is used beyond its public methods."""

from typing import Any


class BufferedReply:
    """Lets the plain client's own code turn a raw reply into the command's result."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def read_response(self, **_: Any) -> Any:
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply
