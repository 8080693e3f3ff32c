"""A grant: what lets a client have its stream, and ends the stream when it ends."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """By default a visitor's, which nothing revokes.

    user_id      whose streams are counted together, and end when the user's rights end
    credential   the name under which the credential is revoked
    network      the client's address or network, whose streams are counted together; "" is not counted
    since        the time.perf_counter() before the credential was checked
    seconds      how long the credential is valid from then on
    check        asks again whether the credential allows the stream; None: this cannot be found out now
    """

    user_id: int | None = None
    credential: str = field(default="", repr=False)
    network: str = ""
    since: float = field(default_factory=time.perf_counter)
    seconds: float = math.inf
    check: Callable[[], Awaitable[bool | None]] | None = field(default=None, repr=False)
