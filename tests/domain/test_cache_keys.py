"""What clients can make the cache store: a finite number of keys for one response, however they spell its address."""

import re

import pytest
from hypothesis import example, given
from quart import Quart

from app.resources import Resources
from app.settings import Settings, load_settings
from app.web.context import EXTENSION
from app.web.host import stated_hosts
from tests.domain.test_hostile_requests import HOSTS, SPELLINGS, generated, is_plain
from tests.raw_requests import Door

LIST = b"/api/v1/notices"


async def cached(app: Quart) -> set[bytes]:
    """The names of the entries and leases in the cache."""
    resources: Resources = app.extensions[EXTENSION]
    pattern = f"*{resources.keys.namespace}:cache:*"
    return {name async for name in resources.cache_redis.scan_iter(match=pattern, count=1000)}


def quoted(text: str) -> bytes:
    return "".join(f"%{byte:02X}" for byte in text.encode()).encode()


@given(host=HOSTS)
@example(host=b"localhost:8000")
@example(host=b"LOCALHOST:8000")
@example(host=b"localhost:08000")
@example(host=b"evil.localhost")
@example(host=b"127.0.0.2")
@example(host=b"[0:0:0:0:0:0:0:1]")
@generated
def test_only_stated_hosts_have_cached_responses(door: Door, settings: Settings, host: bytes) -> None:
    before = door.run(cached(door.app))
    door.send(LIST, host=host)
    if host.decode("latin-1").lower().removesuffix(":80") not in stated_hosts(settings.hosts, settings.ports):
        assert door.run(cached(door.app)) == before


def test_all_ports_and_names_of_this_machine_make_few_keys(door: Door, settings: Settings) -> None:
    names = ["localhost", "LocalHost", "127.0.0.1", "[::1]", *(f"n{n}.localhost" for n in range(20))]
    for name in names:
        for port in ("", *(f":{port}" for port in (80, 443, 8000, 1, 65535, 8001))):
            assert door.send(LIST, host=f"{name}{port}".encode()).status == 200
    # Each of the three names alone and with the port that is served; 443 is not the port of http.
    assert len(door.run(cached(door.app))) == 6


@given(page=SPELLINGS, per_page=SPELLINGS)
@example(page="01", per_page="20")
@example(page="1.0", per_page="20")
@example(page=" 1", per_page="20")
@example(page="٧", per_page="20")
@generated
def test_a_page_number_has_one_spelling(door: Door, page: str, per_page: str) -> None:
    before = door.run(cached(door.app))
    answer = door.send(LIST + b"?page=%b&per_page=%b" % (quoted(page), quoted(per_page)))
    plain = [is_plain(page, largest=10**6), is_plain(per_page, largest=100)]
    assert answer.status == (200 if all(plain) and "0" not in (page, per_page) else 422)
    if answer.status == 422:
        assert door.run(cached(door.app)) == before


def test_one_response_has_one_key_however_it_is_asked_for(door: Door) -> None:
    asked = [
        *(b"", b"?", b"?page=1", b"?per_page=20", b"?page=1&per_page=20", b"?per_page=20&page=1"),
        *(b"?page=%31", b"?pa%67e=1", b"?utm=x", b"?x=1&x=2", b"?page=1&", b"?&&&", b"?Page=2", b"?%ff=1"),
    ]
    for query in asked:
        assert door.send(LIST + query).status == 200
    assert len(door.run(cached(door.app))) == 1
    for path in (b"/api/v1/%6eotices", b"/api/v1/./notices", b"/api/v1/not%69ces"):
        assert door.send(path).status in (200, 404)
    assert len(door.run(cached(door.app))) == 1


@given(text=SPELLINGS)
@example(text="0007")
@example(text="٧")
@generated
def test_another_spelling_of_an_id_stores_nothing(door: Door, text: str) -> None:
    before = door.run(cached(door.app))
    answer = door.send(b"/api/v1/users/" + quoted(text) + b"/notices")
    assert answer.status == 404
    if not is_plain(text, largest=2**63 - 1):
        assert door.run(cached(door.app)) == before


@pytest.mark.parametrize("public_url", ["https://example.org", "http://example.org:8080"])
def test_the_stated_hosts_are_those_of_the_settings(public_url: str) -> None:
    settings = load_settings({"PUBLIC_URL": public_url, "ALLOWED_HOSTS": "other.example", "BIND": "[::1]:9000"})
    hosts = stated_hosts(settings.hosts, settings.ports)
    assert {"example.org", "other.example", "localhost:9000", "[::1]:9000", "127.0.0.1"} <= hosts
    assert ("example.org:8080" in hosts) == ("8080" in public_url)
    assert all(re.fullmatch(r"[^:]+(:\d+)?|\[.*\](:\d+)?", host) for host in hosts)
