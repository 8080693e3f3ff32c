"""What a caller sees of a Redis that is down, does not answer in time, or answers that it cannot serve now."""

import logging
import ssl

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)


class CircuitOpen(RedisConnectionError):
    """Refused at once: the server has failed too often in a row and has not answered since."""


class NotSent(RedisConnectionError):
    """The server cannot be reached, and the command has not been sent: trying elsewhere does no harm."""


class Refused(ResponseError):
    """The server ran nothing, for a reason of its own: it cannot persist, has too few replicas, or is busy."""


# The first word of such an answer, where redis-py has no class for it.
_REFUSALS = frozenset({"MISCONF", "NOREPLICAS", "BUSY"})

# All that says "not now" rather than "not so": no fault of the command, and no answer to it. Whoever can do without
# Redis catches these; a web request that cannot is answered 503.
UNAVAILABLE: tuple[type[RedisError], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    Refused,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
)

# The server ran nothing, and will when it, or the primary after it, has come up.
NOT_SERVING = (ReadOnlyError, BusyLoadingError)


_logged: set[tuple[str, type[BaseException], str]] = set()


def record_failure(error: RedisError, *, block: str, telemetry: Telemetry) -> None:
    """Count a failure of Redis that `block` gets by without, by what kind it is.

    An outage is counted as `redis_outages`. Any other error is a defect, such as a script's or a missing permission:
    it is counted as `redis_defects`, and logged with its traceback the first time in this process.
    """
    if isinstance(error, UNAVAILABLE):
        telemetry.count("redis_outages", block=block)
        return
    telemetry.count("redis_defects", block=block)
    # The first word is the server's code (ERR, NOPERM, WRONGTYPE); the rest may hold keys, of which there is no end.
    kind = (block, type(error), str(error).partition(" ")[0][:32])
    if kind not in _logged:
        _logged.add(kind)
        logger.error("%s: redis refused a command by a defect, which is logged once", block, exc_info=error)


def refusal(error: Exception) -> Exception:
    """The error as Refused, where it is one."""
    if type(error) is ResponseError and str(error).partition(" ")[0] in _REFUSALS:
        return Refused(str(error))
    return error


_PERMANENT = (AuthenticationError, AuthorizationError, NoPermissionError, ssl.SSLCertVerificationError)


def is_permanent(error: BaseException | None) -> bool:
    """Whether a failure to connect is one that trying again does not mend: credentials, certificates, permissions."""
    while error is not None:
        if isinstance(error, _PERMANENT):
            return True
        if type(error) is ResponseError and refusal(error) is error:
            # What the handshake asked for: a database, a name.
            return True
        error = error.__cause__ or error.__context__
    return False
