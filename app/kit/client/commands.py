"""What the automatic pipeline must know about Redis' commands: which need a connection, and which may be repeated."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

# An option of execute_command(): this command may be sent again when its reply was lost.
REPEATABLE = "repeatable"
# How long a command on a dedicated connection may take, besides the time for which it asks the server to wait.
DEDICATED_SECONDS = 10.0


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BLOCKING = _names("BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF")
_OF_A_CONNECTION = _names(
    "AUTH HELLO SELECT QUIT RESET CLIENT READONLY READWRITE ASKING MULTI EXEC DISCARD WATCH UNWATCH "
    "HIMPORT MONITOR REPLCONF SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE "
    "SHUTDOWN FAILOVER SYNC PSYNC"
)
_ALONE = _BLOCKING | _OF_A_CONNECTION

# Reads, and writes that leave the same state when done twice.
_REPEATABLE = _names(
    "GET MGET STRLEN GETRANGE EXISTS TTL PTTL TYPE PING ECHO TIME DBSIZE INFO SCAN KEYS RANDOMKEY OBJECT MEMORY "
    "HGET HMGET HGETALL HEXISTS HLEN HKEYS HVALS HSCAN LLEN LRANGE LINDEX LPOS SCARD SISMEMBER SMEMBERS SMISMEMBER "
    "SSCAN ZCARD ZCOUNT ZSCORE ZMSCORE ZRANGE ZRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZRANK ZREVRANK ZSCAN "
    "XLEN XRANGE XREVRANGE XINFO PUBSUB COMMAND "
    "DEL UNLINK HDEL SREM ZREM EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST HSET HMSET MSET SADD SETEX PSETEX"
)


_SCRIPTS = _names("EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO")
_OF_EXPIRY = frozenset({b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"})


def _name(args: Sequence[Any]) -> str:
    return _first_word(args[0])


@lru_cache(1024)
def _first_word(name: str | bytes) -> str:
    word = name.decode() if isinstance(name, bytes) else name
    return word.partition(" ")[0].upper()


def needs_dedicated_connection(args: tuple[Any, ...]) -> bool:
    """True for a command that blocks in the server, or that changes or needs the state of its connection."""
    name = _name(args)
    return name in _ALONE or (name in {"XREAD", "XREADGROUP"} and b"BLOCK" in [_upper(arg) for arg in args])


def blocks_for_seconds(args: tuple[Any, ...]) -> float:
    """How long the command lets the server block; 0 for one that it answers at once, inf for no end."""
    name = _name(args)
    upper = [_upper(arg) for arg in args]
    if name in {"BLMPOP", "BZMPOP"}:
        seconds = float(args[1])
    elif name in {"WAIT", "WAITAOF"}:
        seconds = float(args[-1]) / 1000
    elif name in {"XREAD", "XREADGROUP"}:
        seconds = float(args[upper.index(b"BLOCK") + 1]) / 1000
    elif name in _BLOCKING:
        seconds = float(args[-1])
    else:
        return 0.0
    return seconds or math.inf


class Traits(NamedTuple):
    """What the pipeline must know of a command."""

    dedicated: bool
    repeatable: bool


# Of the commands whose arguments do not matter, by their names as redis-py sends them: one look instead of a call.
TRAITS: Mapping[Any, Traits] = {
    name: Traits(dedicated=False, repeatable=name in _REPEATABLE) for name in _REPEATABLE | _SCRIPTS
}


def traits_of(args: tuple[Any, ...]) -> Traits:
    """Of any command, by its name and arguments."""
    return Traits(needs_dedicated_connection(args), is_repeatable(args))


def runs_script(args: Sequence[Any]) -> bool:
    """True for a command whose error reply may be one that a script raises, after it has written."""
    return _name(args) in _SCRIPTS


def first_key(args: tuple[Any, ...]) -> Any:
    """The key that routes a command on a cluster; None for a command that any node may answer.

    For a script its first key, for all others their first argument. The few commands that have their keys elsewhere
    are redirected by the node (MOVED), one round trip later.
    """
    if runs_script(args):
        return args[3] if len(args) > 3 and int(args[2]) else None
    return args[1] if len(args) > 1 else None


def is_repeatable(args: tuple[Any, ...]) -> bool:
    """True where running the command twice leaves the same state. A SET does, unless it is conditional.

    The second reply may differ: a repeated DEL answers 0.
    """
    name = _name(args)
    if name == "SET":
        return all(_upper(arg) in _OF_EXPIRY or _upper(arg).isdigit() for arg in args[3:])
    return name in _REPEATABLE


def _upper(arg: Any) -> bytes:
    return arg.upper() if isinstance(arg, bytes) else str(arg).upper().encode()
