"""The URL of a Redis in each deployment, parsed with an error that names the part that is wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote

Deployment = Literal["memory", "server", "unix", "sentinel", "cluster"]
Address = tuple[str, int]

_KINDS: dict[str, tuple[Deployment, bool]] = {
    "memory": ("memory", False),
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_DEFAULT_PORTS: dict[Deployment, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
# Query parameters: the certificates' files, and the credentials for the sentinels.
TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_TLS_OPTIONS = TLS_FILES | {"ssl_check_hostname"}
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})


class BadURL(ValueError):
    """A Redis URL with a part that is wrong. The message names the part and never repeats a credential."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed Redis URL. `service` is the sentinels' name for the primary; `path` is a unix socket's."""

    kind: Deployment
    tls: bool
    addresses: tuple[Address, ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)


def parse_url(url: str) -> Target:
    """memory://, redis[s]://[user:password@]host:port/db, unix:///path?db=n, redis[s]+sentinel://h:p,h:p/service/db,
    redis[s]+cluster://h:p,h:p; the query holds ssl_* files and sentinel_username and sentinel_password. BadURL."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _KINDS:
        raise BadURL(f"the scheme must be one of {', '.join(_KINDS)}")
    kind, tls = _KINDS[scheme]
    if kind == "memory":
        return Target(kind, tls)
    rest, _, query = rest.partition("?")
    userinfo, at, rest = rest.rpartition("@")
    username, _, password = userinfo.partition(":")
    place, _, tail = rest.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if kind == "unix":
        database, service, path = _database(options.pop("db", "")), "", unquote(f"/{tail}")
        if place or not tail:
            raise BadURL("the path of the socket is missing: unix:///path")
        addresses: tuple[Address, ...] = ()
    else:
        addresses, path = tuple(_address(part, kind) for part in place.split(",")), ""
        if kind == "server" and len(addresses) != 1:
            raise BadURL("several hosts need redis+sentinel:// or redis+cluster://")
        service, database = _service_and_database(tail, kind)
    _check_options(options, kind, tls=tls)
    return Target(
        kind,
        tls,
        addresses,
        path,
        service,
        database,
        username=unquote(username) or None if at else None,
        password=unquote(password) or None if at else None,
        options=options,
    )


def _address(text: str, kind: Deployment) -> Address:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(_DEFAULT_PORTS[kind])
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise BadURL("a host is missing")
    if ":" in host and not text.startswith("["):
        raise BadURL("an IPv6 address needs brackets")
    if not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise BadURL(f"the port of host {host} must be a number from 1 to 65535")
    return unquote(host), int(port)


def _service_and_database(tail: str, kind: Deployment) -> tuple[str, int]:
    service, _, number = tail.partition("/") if kind == "sentinel" else ("", "", tail)
    if kind == "sentinel" and not service:
        raise BadURL("the name of the primary is missing: redis+sentinel://host:port/NAME/0")
    database = _database(number)
    if kind == "cluster" and database:
        raise BadURL("a cluster has database 0 only")
    return unquote(service), database


def _database(text: str) -> int:
    if text and (not text.isdecimal() or len(text) > 9):
        raise BadURL("the database must be a whole number of at most 9 digits")
    return int(text or 0)


def _check_options(options: dict[str, str], kind: Deployment, *, tls: bool) -> None:
    known = (_TLS_OPTIONS if tls else frozenset()) | (_SENTINEL_OPTIONS if kind == "sentinel" else frozenset())
    for name in options:
        if name not in known:
            # A "?" in a password that was not quoted: the rest of the password looks like an option.
            raise BadURL(
                "a part of it after the ? is no option" if "@" in name else f"the option {name} is not known here"
            )
        if name in TLS_FILES and not Path(options[name]).is_file():
            raise BadURL(f"the file of the option {name} cannot be found")
    if options.get("ssl_check_hostname", "true") not in {"true", "false"}:
        raise BadURL("the option ssl_check_hostname must be true or false")
