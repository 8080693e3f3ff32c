"""The options of a database URL: libpq's names, as far as asyncpg has them; any other is refused at the start.

The names: PostgreSQL 15, 34.1.2 "Parameter Key Words".
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import URL, make_url

# Read by asyncpg itself from a DSN.
_OF_DSN = frozenset(
    {
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("target_session_attrs", "passfile", "service", "krbsrvname", "gsslib"),
    }
)
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
# SQLAlchemy's own: where the server is, and how statements are prepared (0 for a pooler such as PgBouncer).
_OF_SQLALCHEMY = frozenset({"host", "port", "prepared_statement_cache_size"})
_NUMBERS = ("connect_timeout", "statement_cache_size", "prepared_statement_cache_size")
_OTHERS = frozenset({"application_name", "connect_timeout", "statement_cache_size"})


class BadURL(ValueError):
    """What is wrong with an option of the URL. The message repeats no value, which may be a secret."""


def check_database_url(url: str) -> None:
    """BadURL for an option that would have no effect, or make every connection fail."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        if address.query:
            raise BadURL(f"SQLite takes no options, and the URL has {_names(address.query)}")
        return
    postgres_arguments(address)


def postgres_arguments(address: URL) -> tuple[URL, dict[str, Any]]:
    """The URL with SQLAlchemy's options alone, and the others as arguments of asyncpg.connect(). BadURL: see above."""
    _check_places(address)
    options = {name: value for name, value in address.query.items() if name not in ("host", "port")}
    unknown = options.keys() - _OF_DSN - _OF_SQLALCHEMY - _OTHERS
    if unknown:
        known = sorted(_OF_DSN | _OF_SQLALCHEMY | _OTHERS)
        raise BadURL(f"the URL has the option {_names(unknown)}, which is none of {', '.join(known)}")
    given: dict[str, str] = {}
    for name, value in options.items():
        if not isinstance(value, str) or not value:
            raise BadURL(f"the option {name} needs one value")
        _check(name, value)
        given[name] = value
    arguments: dict[str, Any] = {}
    if dsn := {name: value for name, value in given.items() if name in _OF_DSN}:
        arguments["dsn"] = f"postgresql://?{urlencode(dsn)}"
    if "application_name" in given:
        arguments["server_settings"] = {"application_name": given["application_name"]}
    if "connect_timeout" in given:
        arguments["timeout"] = int(given["connect_timeout"])
    if "statement_cache_size" in given:
        arguments["statement_cache_size"] = int(given["statement_cache_size"])
    return address.difference_update_query(_OF_DSN | _OTHERS), arguments


def _check_places(address: URL) -> None:
    """`host`, once or more, with or without a port; `port`, with commas between the ports of several hosts."""
    for name, values in address.normalized_query.items():
        for value in values if name in ("host", "port") else ():
            # A path is a Unix socket; an IPv6 address is in brackets, if a port follows it.
            ports = value.split(",") if name == "port" else re.findall(r"^[^/:]*:([^:]*)$|\]:(.*)$", value)
            for port in ports:
                text = port if isinstance(port, str) else "".join(port)
                if text and not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
                    raise BadURL(f"{name} must have a port from 1 to 65535")


def _check(name: str, value: str) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise BadURL(f"{name} must be one of {', '.join(_CHOICES[name])}")
    if name in _NUMBERS and not (value.isascii() and value.isdecimal() and len(value) < 6):
        raise BadURL(f"{name} must be a whole number")
    if name in _FILES and not Path(value).is_file():
        raise BadURL(f"{name} must name a file that is there")


def _names(options: Iterable[str]) -> str:
    return ", ".join(sorted(name[:40] for name in options))
