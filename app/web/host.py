"""The Host of a request: its syntax, and the finite set of values under which responses are cached."""

import re
from collections.abc import Iterable
from functools import lru_cache

from app.web.client_address import is_loopback

_LABEL = r"[A-Za-z0-9_-]{1,63}"
# RFC 9110, 7.2, with the labels of a name as RFC 1035, 2.3.4, has them.
_HOST = re.compile(rf"(?:\[([0-9A-Fa-f:.]+)\]|({_LABEL}(?:\.{_LABEL})*))(?::[0-9]{{1,5}})?")
_LONGEST_NAME = 253
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


# A server is asked by few names, and each is checked for every request.
@lru_cache(maxsize=64)
def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without its port; "" where it is malformed."""
    found = _HOST.fullmatch(host)
    name = (found[1] or found[2]).lower() if found else ""
    return name if len(name) <= _LONGEST_NAME else ""


@lru_cache(maxsize=64)
def is_own_machine(name: str) -> bool:
    """Whether a host name is one of this machine's own (RFC 6761, 6.3, and the loopback addresses)."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def stated_hosts(names: Iterable[str], ports: Iterable[int]) -> frozenset[str]:
    """Each value of Host that these names and three loopback names make, without a port and with each of `ports`."""
    hosts = {*LOOPBACK_HOSTS, *(f"[{name}]" if ":" in name else name for name in names if name)}
    return frozenset(hosts | {f"{host}:{port}" for host in hosts for port in ports})
