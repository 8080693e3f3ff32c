"""The kinds of database errors: it is down, its schema is behind, two changes collide, or the code has a defect."""

import sqlite3
from typing import Literal

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import root_cause

Failure = Literal["down", "behind", "collision"]

# PostgreSQL, appendix A: connection exceptions, refused credentials or database, transactions rolled back (deadlocks),
# lack of resources, intervention by an operator (a statement's timeout too), system errors. Trying again may succeed.
_DOWN_CLASSES = frozenset({"08", "28", "3D", "40", "53", "57", "58"})
# A lock that is not available, a primary that has become a standby, and a role without the rights.
_DOWN = frozenset({"55P03", "25006", "42501"})
_COLLISIONS = frozenset({"23505", "23503"})  # unique, foreign key
_BEHIND = frozenset({"42P01", "42703"})  # no such table, no such column

_SQLITE_DOWN = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_SQLITE_COLLISIONS = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}
)

_UPGRADE = "its schema is behind this version: `quartet db upgrade` brings it up to date"
# What PostgreSQL's text would say, without the names in it, which come from the URL.
_REASONS = {
    "28000": "the role does not exist, or may not connect (pg_hba.conf)",
    "28P01": "the password is wrong, or the role does not exist",
    "3D000": "the database does not exist",
    "42501": "the role has no right to this",
    "53300": "the server has no connection left",
}


def failure_of(error: BaseException) -> Failure | None:
    """None for a defect."""
    if isinstance(error, OSError | PoolTimeout | TimeoutError):
        return "down"
    if not isinstance(error, DBAPIError):
        return None
    if error.connection_invalidated:
        return "down"
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _of_postgres(state)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _of_sqlite(code, str(error.orig))
    # Raised by the driver, not by the server: the connection is closed or was never made.
    return "down" if type(error.orig).__name__ == "InterfaceError" else None


def reason_of(error: BaseException) -> tuple[str, str]:
    """The class of the driver's error, and its reason in words where there are some ("" otherwise).

    Never the error's own text: it may hold the URL's user and host.
    """
    cause = root_cause(error)
    kind, state = type(cause).__name__, str(getattr(cause, "sqlstate", None))
    if kind == "InvalidAuthorizationSpecificationError" and str(cause).endswith(" does not exist"):
        return kind, "the role does not exist"
    return kind, _UPGRADE if failure_of(error) == "behind" else _REASONS.get(state, "")


def _of_postgres(state: str) -> Failure | None:
    if state in _COLLISIONS:
        return "collision"
    if state in _BEHIND:
        return "behind"
    return "down" if state[:2] in _DOWN_CLASSES or state in _DOWN else None


def _of_sqlite(code: int, message: str) -> Failure | None:
    if code in _SQLITE_COLLISIONS:
        return "collision"
    if message.startswith(("no such table", "no such column")):
        return "behind"
    return "down" if code & 0xFF in _SQLITE_DOWN else None  # the low byte of an extended code is the primary one
