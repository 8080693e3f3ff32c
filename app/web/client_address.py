"""The client's address: the peer's, or the one that trusted proxies report. Headers from anyone else are ignored."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from quart import current_app

from app.web.context import Exchange, exchange

# Names in app.config: networks as texts, and how many proxies there are before this server.
TRUSTED_PROXIES = "TRUSTED_PROXIES"
TRUSTED_HOPS = "TRUSTED_HOPS"
# Which of the two headers they write.
TRUSTED_HEADER = "TRUSTED_HEADER"
FORWARDED = "forwarded"

# A peer on a Unix socket has no address; it is a process of this machine.
LOCAL_PEER = "127.0.0.1"
# Providers assign a whole /64 to each customer (RFC 6177), so its addresses count as one client.
IPV6_PREFIX = 64
# With brackets, a zone and a port.
LONGEST_ADDRESS = 100

# One pair of a Forwarded element with the separator that follows it (RFC 7239, 4).
_PAIR = re.compile(r'\s*([!#-\'*+.0-9A-Z^-z|~-]+)=("(?:[^"\\]|\\.)*"|[^\s"\\,;]*)\s*([,;]|$)', re.ASCII)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address() -> str:
    """The address of the current request's client, for records; limits use client_network()."""
    return str(_client(exchange(), current_app.config))


def client_network() -> str:
    """The network that counts as one client for a limit: an IPv4 address, or the /64 of an IPv6 address."""
    return network_of_client(exchange(), current_app.config)


def network_of_client(asked: Exchange, config: Mapping[str, Any]) -> str:
    """client_network() of a request that has no framework around it yet."""
    return _network(_client(asked, config))


def is_from_proxy(scope: Any, config: Mapping[str, Any]) -> bool:
    """Whether the peer is a trusted proxy, so that what it states of the request counts."""
    peer = _peer(scope)
    return config.get(TRUSTED_HOPS, 0) > 0 or any(peer in network for network in _trusted(config))


def network_of(text: str) -> str:
    """client_network() of an address as a person writes it; any other text is returned unchanged."""
    address = _parse(text) if "/" not in text else None
    return text if address is None else _network(address)


def is_loopback(text: str) -> bool:
    """Whether a text is a loopback address (RFC 6890), of IPv6, IPv4, or IPv4 mapped into IPv6; without a port."""
    try:
        return _unmapped(ipaddress.ip_address(text)).is_loopback
    except ValueError:
        return False


# A client asks more than once, and each of its requests is counted.
@lru_cache(maxsize=1024)
def _network(address: IPAddress) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _client(asked: Exchange, config: Mapping[str, Any]) -> IPAddress:
    hops: int = config.get(TRUSTED_HOPS, 0)
    is_rfc_7239 = config.get(TRUSTED_HEADER) == FORWARDED
    # Only the header that the proxies write: a client may send the other one.
    chain = _forwarded(asked) if is_rfc_7239 else _x_forwarded_for(asked)
    return _first_untrusted(_peer(asked.scope), chain, networks=_trusted(config), hops=hops)


def _peer(scope: Any) -> IPAddress:
    return _parse((scope.get("client") or ("",))[0]) or ipaddress.ip_address(LOCAL_PEER)


def _trusted(config: Mapping[str, Any]) -> tuple[Network, ...]:
    return _networks(tuple(config.get(TRUSTED_PROXIES, ())))


def _first_untrusted(peer: IPAddress, chain: Sequence[str], *, networks: tuple[Network, ...], hops: int) -> IPAddress:
    """Walk from the peer towards the client as long as the address reached is a trusted proxy's.

    `chain` has the client first. An entry that is no address ends the walk at the proxy that wrote it.
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


def _x_forwarded_for(asked: Exchange) -> list[str]:
    # A client may send lines of its own; the proxies' entries are the last ones of all lines.
    lines = asked.lines(b"x-forwarded-for")
    return ",".join(lines).split(",") if lines else []


def _forwarded(asked: Exchange) -> list[str]:
    """The `for` of each element of Forwarded, "" where it has none; one "" for a malformed header."""
    header = ",".join(asked.lines(b"forwarded"))
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
    return _parsed(host) if len(host) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)
def _parsed(host: str) -> IPAddress | None:
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return _unmapped(address)


def _unmapped(address: IPAddress) -> IPAddress:
    return (address.ipv4_mapped or address) if address.version == 6 else address


@lru_cache
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
