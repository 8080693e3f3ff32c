"""What one client, and all of them, may take of a worker."""

import ipaddress
import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

if sys.platform != "win32":
    import resource

# Descriptors that are not admitted connections: files, the loop's own, the connections to Redis and the database, and
# connections that have been accepted, and are admitted or refused in the next turns of the loop.
RESERVED_DESCRIPTORS = 400


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are in bytes, times in seconds. docs/serving.md says how each is answered."""

    connections: int = 12_000
    connections_per_address: int = 2_000
    # Networks of proxies, whose connections are those of many clients.
    trusted: tuple[str, ...] = ()
    request_line_bytes: int = 8192
    header_bytes: int = 32 * 1024
    header_count: int = 100
    # From the connection, or the first byte after a response, to the end of a request's head.
    header_seconds: float = 10.0
    # Between a response and the first byte of the next request.
    idle_seconds: float = 75.0
    # A body may pause for header_seconds in all, and for a second more with each of so many bytes.
    body_bytes_per_second: int = 240
    # How long a client may take nothing of what is sent to it.
    send_seconds: float = 30.0


class Admission:
    """Counts the connections of a worker, in all and by address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._networks = [ipaddress.ip_network(network) for network in limits.trusted]
        self._by_address: Counter[str] = Counter()
        self._open = 0
        self._is_trusted = lru_cache(maxsize=4096)(self._in_networks)

    def refusal(self, address: str | None) -> str | None:
        """Why one more connection from `address` is refused, or None. A Unix socket has no address."""
        if self._open >= self._limits.connections:
            return "too many connections"
        if address and self._by_address[address] >= self._limits.connections_per_address:
            return None if self._is_trusted(address) else "too many connections of one address"
        return None

    def add(self, address: str | None) -> None:
        self._open += 1
        if address:
            self._by_address[address] += 1

    def remove(self, address: str | None) -> None:
        self._open -= 1
        if address:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def _in_networks(self, address: str) -> bool:
        # A zone (fe80::1%eth0) is no part of the address.
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks)


def affordable_connections(wanted: int) -> int:
    """`wanted`, or fewer where the process may not open so many descriptors. Raises the soft limit as far as it may."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = wanted + RESERVED_DESCRIPTORS
        if soft != resource.RLIM_INFINITY and soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft != resource.RLIM_INFINITY:
            return min(wanted, max(soft - RESERVED_DESCRIPTORS, 1))
    return wanted
