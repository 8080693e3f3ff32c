"""Who the client is, behind proxies or not, whatever the headers hold."""

import asyncio
import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Quart
from werkzeug.datastructures import Headers

from app.web.client_address import client_address, client_network, is_loopback

PROXY, INNER_PROXY, CLIENT, SPOOFED = "10.0.0.1", "10.0.0.2", "198.51.100.7", "192.0.2.66"


async def seen(peer: str | None, *headers: tuple[str, str], **config: Any) -> tuple[str, str]:
    """The address and the network of the client, as a view sees them."""
    app = Quart("test")
    app.config.update(config)

    @app.get("/")
    async def whoami() -> dict[str, str]:
        return {"address": client_address(), "network": client_network()}

    client = (peer, 4711) if peer is not None else None
    response = await app.test_client().get("/", headers=Headers(headers), scope_base={"client": client})
    assert response.status_code == 200
    found = await response.get_json()
    return found["address"], found["network"]


async def address(peer: str, *headers: tuple[str, str], **config: Any) -> str:
    return (await seen(peer, *headers, **config))[0]


def x_forwarded_for(value: str) -> tuple[str, str]:
    return "X-Forwarded-For", value


def forwarded(value: str) -> tuple[str, str]:
    return "Forwarded", value


BEHIND_PROXIES = {"TRUSTED_PROXIES": ("10.0.0.0/8", "fd00::/8")}


@pytest.mark.parametrize(
    "header",
    [
        x_forwarded_for(SPOOFED),
        forwarded(f"for={SPOOFED}"),
        ("X-Real-IP", SPOOFED),
        ("Remote-Addr", SPOOFED),
        ("True-Client-IP", SPOOFED),
    ],
)
@pytest.mark.parametrize("config", [{}, BEHIND_PROXIES])
async def test_a_peer_that_is_no_trusted_proxy_speaks_for_itself(
    header: tuple[str, str], config: dict[str, Any]
) -> None:
    assert await address(CLIENT, header, **config) == CLIENT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CLIENT, CLIENT),
        (f"{SPOOFED}, {CLIENT}", CLIENT),
        (f"{SPOOFED}, {CLIENT}, {INNER_PROXY}", CLIENT),
        (f"{INNER_PROXY},{SPOOFED},{CLIENT},{INNER_PROXY}", CLIENT),
        (f"{CLIENT}:51234", CLIENT),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        (f"{CLIENT}, ::ffff:{INNER_PROXY}", CLIENT),
        (f"{CLIENT}, fd00::2", CLIENT),
        # Whoever cannot be named hides behind the proxy that could not name them.
        (f"{CLIENT}, unknown", PROXY),
        (f"{CLIENT}, unknown, {INNER_PROXY}", INNER_PROXY),
        (f"{CLIENT}, ", PROXY),
        ("", PROXY),
        (",,,", PROXY),
        ("999.1.1.1", PROXY),
        ("127.1", PROXY),
        ("0x7f000001", PROXY),
        # All are trusted: the request began at the first of them.
        (f"{INNER_PROXY}, {PROXY}", INNER_PROXY),
    ],
)
async def test_trusted_networks(value: str, expected: str) -> None:
    assert await address(PROXY, x_forwarded_for(value), **BEHIND_PROXIES) == expected


async def test_each_line_of_the_header_counts() -> None:
    lines = x_forwarded_for(SPOOFED), x_forwarded_for(CLIENT)
    assert await address(PROXY, *lines, **BEHIND_PROXIES) == CLIENT


@pytest.mark.parametrize(
    ("hops", "expected"), [(0, PROXY), (1, "192.0.2.3"), (2, "192.0.2.2"), (3, "192.0.2.1"), (9, "192.0.2.1")]
)
async def test_a_number_of_hops(hops: int, expected: str) -> None:
    header = x_forwarded_for("192.0.2.1, 192.0.2.2, 192.0.2.3")
    assert await address(PROXY, header, TRUSTED_HOPS=hops) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};Proto=https;by={PROXY}", CLIENT),
        (f'proto=https ; for="{CLIENT}:4711"', CLIENT),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        (f"for={SPOOFED}, for={CLIENT}", CLIENT),
        (f"for={CLIENT}, for={INNER_PROXY}", CLIENT),
        (f'for={SPOOFED};host="a, for={SPOOFED}", for={CLIENT}', CLIENT),
        # What is hidden, missing or malformed ends the walk at the proxy that said so.
        (f"for={CLIENT}, for=_hidden", PROXY),
        (f"for={CLIENT}, for=unknown", PROXY),
        (f"for={CLIENT}, proto=https", PROXY),
        (f"for={CLIENT},", PROXY),
        # A quote that the client left open must not swallow what the proxy appended.
        (f'for="{SPOOFED}, for={CLIENT}', PROXY),
        (f'for={SPOOFED};x=", for="{CLIENT}"', PROXY),
        (f"for={CLIENT} for={SPOOFED}", PROXY),
        ("for", PROXY),
        ("=;=,", PROXY),
    ],
)
async def test_forwarded(value: str, expected: str) -> None:
    assert await address(PROXY, forwarded(value), **BEHIND_PROXIES, TRUSTED_HEADER="forwarded") == expected


@pytest.mark.parametrize("spoofed", [f"for={SPOOFED}", "junk", ""])
async def test_the_header_that_the_proxies_do_not_write_is_a_clients_own(spoofed: str) -> None:
    both = x_forwarded_for(CLIENT), forwarded(spoofed)
    assert await address(PROXY, *both, **BEHIND_PROXIES) == CLIENT
    both = x_forwarded_for(spoofed), forwarded(f"for={CLIENT}")
    assert await address(PROXY, *both, **BEHIND_PROXIES, TRUSTED_HEADER="forwarded") == CLIENT


async def test_a_peer_without_an_address_is_this_machine() -> None:
    for peer in (None, "", "unix:/run/quartet.sock"):
        assert await seen(peer) == ("127.0.0.1", "127.0.0.1")
        trusting = await seen(peer, x_forwarded_for(CLIENT), TRUSTED_PROXIES=("127.0.0.0/8",))
        assert trusting == (CLIENT, CLIENT)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (CLIENT, CLIENT),
        (f"::ffff:{CLIENT}", CLIENT),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
    ],
)
async def test_networks(peer: str, network: str) -> None:
    assert (await seen(peer))[1] == network


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback(text: str) -> None:
    assert is_loopback(text)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "127.0.0.1:80", "[::1]", "::ffff:10.0.0.1", CLIENT, "::"])
def test_no_loopback(text: str) -> None:
    assert not is_loopback(text)


junk = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=60)
pieces = st.lists(
    st.sampled_from(["for", "=", '"', "\\", ",", ";", ":", "[", "]", "%", " ", "::", "1.2.3.4", "10.0.0.1"]) | junk,
    max_size=12,
).map("".join)


def test_junk_never_raises() -> None:
    with asyncio.Runner() as runner:

        @settings(max_examples=100, deadline=None, derandomize=True, database=None)
        @given(st.sampled_from(["X-Forwarded-For", "Forwarded"]), pieces, st.integers(0, 3))
        def holds(name: str, value: str, hops: int) -> None:
            header = {"TRUSTED_HEADER": name.lower()}
            found, network = runner.run(seen(PROXY, (name, value), TRUSTED_HOPS=hops, **header))
            assert ipaddress.ip_address(found) in ipaddress.ip_network(network)

        holds()
