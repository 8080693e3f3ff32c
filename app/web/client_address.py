"""The client's address: the peer's own, or what trusted proxies say of it. No header that they did not write counts."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from quart import current_app, request

# Names in app.config: networks as texts, and how many proxies stand before this server.
TRUSTED_PROXIES = "TRUSTED_PROXIES"
TRUSTED_HOPS = "TRUSTED_HOPS"
# And which of the two headers they write.
TRUSTED_HEADER = "TRUSTED_HEADER"
FORWARDED = "forwarded"

# A peer on a Unix socket has no address; it can only be a process of this machine.
LOCAL_PEER = "127.0.0.1"
# Providers hand each customer a whole /64 (RFC 6177): one address of it says nothing.
IPV6_PREFIX = 64

# One pair of a Forwarded element with the separator that follows it (RFC 7239, 4).
_PAIR = re.compile(r'\s*([!#-\'*+.0-9A-Z^-z|~-]+)=("(?:[^"\\]|\\.)*"|[^\s"\\,;]*)\s*([,;]|$)', re.ASCII)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address() -> str:
    """The address of the current request's client: for records, not for limits."""
    return str(_client())


def client_network() -> str:
    """Who counts as one client for a limit: an IPv4 address, or the /64 network of an IPv6 address."""
    return _network(_client())


def network_of(text: str) -> str:
    """client_network() of an address as a person writes it; any other text stays as it is."""
    address = _parse(text) if "/" not in text else None
    return text if address is None else _network(address)


def _network(address: IPAddress) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _client() -> IPAddress:
    """Only the header that the proxies write is read: the other one would be the client's own."""
    networks = _networks(tuple(current_app.config.get(TRUSTED_PROXIES, ())))
    hops: int = current_app.config.get(TRUSTED_HOPS, 0)
    peer = _parse(request.remote_addr or "") or ipaddress.ip_address(LOCAL_PEER)
    is_rfc_7239 = current_app.config.get(TRUSTED_HEADER) == FORWARDED
    chain = _forwarded() if is_rfc_7239 else _x_forwarded_for()
    return _first_untrusted(peer, chain, networks=networks, hops=hops)


def _first_untrusted(peer: IPAddress, chain: Sequence[str], *, networks: tuple[Network, ...], hops: int) -> IPAddress:
    """Walk from the peer towards the client for as long as the one who speaks is a trusted proxy.

    `chain` has the client first. What a trusted proxy could not name ends the walk at that proxy.
    """
    address = peer
    for distance, text in enumerate(reversed(chain)):
        if distance >= hops and not any(address in network for network in networks):
            return address
        named = _parse(text)
        if named is None:
            return address
        address = named
    return address


def _x_forwarded_for() -> list[str]:
    """A client may send lines of its own: the proxies' entries stand last over all lines."""
    lines = request.headers.getlist("X-Forwarded-For")
    return ",".join(lines).split(",") if lines else []


def _forwarded() -> list[str]:
    """The `for` of each element of Forwarded, "" where one has none. A malformed header says nothing at all."""
    header = ",".join(request.headers.getlist("Forwarded"))
    elements = [""]
    position = 0
    while position < len(header):
        pair = _PAIR.match(header, position)
        if pair is None:
            return [""]
        name, value, separator = pair.groups()
        if name.lower() == "for":
            elements[-1] = value.strip('"')
        if separator == ",":
            elements.append("")
        position = pair.end()
    return elements if header else []


def _parse(text: str) -> IPAddress | None:
    """An address with or without port and brackets; None for anything else. IPv4 mapped into IPv6 is IPv4."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if address.version == 6 else address


@lru_cache
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
