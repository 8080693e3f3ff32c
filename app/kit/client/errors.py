"""The errors of a Redis that is down, does not answer in time, or cannot serve now; and how blocks record errors."""

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
    """The server cannot be reached, and the command was not sent: it may be sent elsewhere."""


class Refused(ResponseError):
    """The server cannot run the command now: it cannot persist, has too few replicas, or is busy with a script."""


# The first word of such an answer, where redis-py has no class for it.
_REFUSALS = frozenset({"MISCONF", "NOREPLICAS", "BUSY"})

# An outage: the server cannot be reached, or cannot run any such command now. A block that can do without Redis catches
# these; a web request that cannot is answered 503. Any other RedisError is a defect, a missing permission too.
UNAVAILABLE: tuple[type[RedisError], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    Refused,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
)

# The server runs nothing before it has loaded its data, or nothing that writes as it is a replica.
NOT_SERVING = (ReadOnlyError, BusyLoadingError)


_logged: set[tuple[str, type[BaseException], str]] = set()


def record_failure(error: RedisError, *, block: str, telemetry: Telemetry) -> None:
    """Count an error of Redis that `block` handles by its stated policy.

    An outage is counted as `redis_outages`. Any other error is a defect, such as a script's or a missing permission:
    it is counted as `redis_defects`, and logged with its traceback the first time in this process.
    """
    if isinstance(error, UNAVAILABLE):
        telemetry.count("redis_outages", block=block)
        return
    telemetry.count("redis_defects", block=block)
    # The first word is the server's code (ERR, NOPERM, WRONGTYPE); the rest may hold keys, whose number is unbounded.
    kind = (block, type(error), str(error).partition(" ")[0][:32])
    if kind not in _logged:
        _logged.add(kind)
        logger.error("%s: a defect, which is logged once: redis answered with an error", block, exc_info=error)


def refusal(error: Exception) -> Exception:
    """The error as Refused, where it is one."""
    if type(error) is ResponseError and str(error).partition(" ")[0] in _REFUSALS:
        return Refused(str(error))
    return error


_PERMANENT = (AuthenticationError, AuthorizationError, NoPermissionError, ssl.SSLCertVerificationError)


def is_permanent(error: BaseException | None) -> bool:
    """Whether a failure to connect will be the same the next time: credentials, certificates, permissions."""
    while error is not None:
        if isinstance(error, _PERMANENT):
            return True
        if type(error) is ResponseError and refusal(error) is error:
            # The handshake asked for something that the server refuses: a database, a name.
            return True
        error = error.__cause__ or error.__context__
    return False
