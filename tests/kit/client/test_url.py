import pytest

from app.kit.client.url import BadURL, parse_url


@pytest.mark.parametrize(
    ("url", "kind", "addresses"),
    [
        ("memory://", "memory", ()),
        ("redis://localhost", "server", (("localhost", 6379),)),
        ("redis://h:7000/2", "server", (("h", 7000),)),
        ("redis://[::1]:7000", "server", (("::1", 7000),)),
        ("redis://[::1]", "server", (("::1", 6379),)),
        ("rediss://h", "server", (("h", 6379),)),
        ("unix:///run/redis.sock?db=3", "unix", ()),
        ("redis+sentinel://a:1,b/main/1", "sentinel", (("a", 1), ("b", 26379))),
        ("redis+cluster://a:1,b:2", "cluster", (("a", 1), ("b", 2))),
    ],
)
def test_every_deployment_has_a_url(url: str, kind: str, addresses: tuple[tuple[str, int], ...]) -> None:
    target = parse_url(url)
    assert (target.kind, target.addresses) == (kind, addresses)


def test_credentials_are_unquoted_and_never_shown() -> None:
    target = parse_url(f"rediss://us%40er:p%2Fss%3A@h:1/2?ssl_ca_certs={__file__}")
    assert (target.username, target.password, target.database) == ("us@er", "p/ss:", 2)
    assert "p/ss" not in repr(target)


def test_a_password_alone_is_the_default_user() -> None:
    target = parse_url("redis://:secret@h")
    assert (target.username, target.password) == (None, "secret")


def test_unix_socket_keeps_its_path_and_database() -> None:
    target = parse_url("unix:///run/my%20redis.sock?db=3")
    assert (target.path, target.database) == ("/run/my redis.sock", 3)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "scheme"),
        ("localhost:6379", "scheme"),
        ("redis://", "host"),
        ("redis://:6379", "host"),
        ("redis://h:port", "port"),
        ("redis://h:0", "port"),
        ("redis://h:70000", "port"),
        ("redis://h:1:2", "brackets"),
        ("redis://h/one", "database"),
        ("redis://a,b", "several hosts"),
        ("redis://h?timeout=1", "option timeout"),
        ("redis://h?ssl_ca_certs=x", "option ssl_ca_certs"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("rediss://h?ssl_ca_certs=/no/such/file.pem", "file of the option ssl_ca_certs"),
        ("unix://", "path"),
        ("unix://run/redis.sock", "path"),
        ("redis+sentinel://h:1", "primary"),
        ("redis+sentinel://h:1/main/x", "database"),
        ("redis+cluster://h:1/2", "database"),
    ],
)
def test_a_bad_url_names_the_part_that_is_wrong(url: str, part: str) -> None:
    with pytest.raises(BadURL, match=part):
        parse_url(url)


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@h", "redis://u:hunter2@h:x", "redis://u:hunter2@h/x", "redis://u:12?hunter2@h/0"]
)
def test_the_message_holds_no_credential(url: str) -> None:
    with pytest.raises(BadURL) as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value)
