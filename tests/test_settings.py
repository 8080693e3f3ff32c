import pytest

from app.settings import DEVELOPMENT_SECRET_KEY, SettingsError, load_settings

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 32,
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "PUBLIC_URL": "https://example.org",
}


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value.problems


def test_an_empty_environment_is_development_on_embedded_stores() -> None:
    settings = load_settings({})
    assert settings.uses_embedded_redis
    assert settings.environment == "development"


def test_an_empty_value_counts_as_unset() -> None:
    assert load_settings({"WORKERS": ""}).workers == 1


def test_every_problem_is_reported_at_once_by_the_name_of_its_variable() -> None:
    found = problems(
        ENVIRONMENT="production", WORKERS="many", BIND="8000", REDIS_URL="http://x", TRUSTED_PROXIES="10.0.0.0/99"
    )
    named = {problem.split(":")[0] for problem in found}
    assert named == {"WORKERS", "BIND", "REDIS_URL", "TRUSTED_PROXIES", "SECRET_KEY", "PUBLIC_URL"}


@pytest.mark.parametrize("secret", ["", "short", DEVELOPMENT_SECRET_KEY])
def test_production_refuses_a_missing_short_or_default_secret(secret: str) -> None:
    assert [p for p in problems(**{**PRODUCTION, "SECRET_KEY": secret}) if p.startswith("SECRET_KEY")]


def test_production_refuses_the_embedded_store_unless_allowed_by_name() -> None:
    embedded = {**PRODUCTION, "REDIS_URL": "memory://"}
    assert [p for p in problems(**embedded) if p.startswith("REDIS_URL")]
    assert load_settings({**embedded, "ALLOW_EMBEDDED_REDIS": "1"}).uses_embedded_redis


def test_the_embedded_store_refuses_more_than_one_worker_and_says_why() -> None:
    [problem] = problems(WORKERS="2")
    assert "WORKERS" in problem
    assert "one process" in problem


def test_secrets_are_in_no_message_and_no_repr() -> None:
    url = "redis://user:hunter2@127.0.0.1/0"
    assert "hunter2" not in repr(load_settings({"REDIS_URL": url, "SECRET_KEY": "hunter2" * 9}))
    assert "hunter2" not in "".join(problems(REDIS_URL="http://user:hunter2@x", DATABASE_URL="mysql://u:hunter2@x"))


def test_the_separate_redis_variables_make_one_url() -> None:
    environ = {"REDIS_HOST": "h", "REDIS_PORT": "7", "REDIS_DB": "3", "REDIS_PASSWORD": "p@ss/", "REDIS_SSL": "true"}
    assert load_settings(environ).redis_url == "rediss://:p%40ss%2F@h:7/3"


def test_the_separate_sentinel_variables_make_one_url() -> None:
    environ = {"REDIS_SENTINEL_HOSTS": "a:1,b:2", "REDIS_SENTINEL_MASTER": "main"}
    assert load_settings(environ).redis_url == "redis+sentinel://a:1,b:2/main/0"


def test_redis_url_wins_over_the_separate_variables() -> None:
    assert load_settings({"REDIS_URL": "memory://", "REDIS_HOST": "h"}).uses_embedded_redis


def test_a_bad_port_names_its_variable() -> None:
    assert problems(REDIS_HOST="h", REDIS_PORT="x")[0].startswith("REDIS_PORT")


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        load_settings({}).workers = 2


def test_links_lead_to_the_address_that_is_served_unless_told_otherwise() -> None:
    for bind in ("127.0.0.1:9000", "[::1]:9000", "localhost:9000"):
        assert load_settings({"BIND": bind}).public_url == f"http://{bind}"
    assert load_settings({"BIND": "unix:/run/quartet.sock"}).public_url == "http://127.0.0.1:8000"
    settings = load_settings({"PUBLIC_URL": "https://example.org", "ALLOWED_HOSTS": "www.example.org"})
    assert settings.hosts == ("example.org", "www.example.org")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql+asyncpg://user:hunter2@host:bad/db"),
        ("DATABASE_URL", "sqlite+aiosqlite://"),
        ("DATABASE_REPLICA_URL", "sqlite+aiosqlite:///:memory:"),
        ("BIND", "127.0.0.1:99999"),
        ("BIND", "127.0.0.1:0"),
        ("PUBLIC_URL", "http://:80"),
        ("PUBLIC_URL", "https://example.org/path"),
        ("DRAIN_SECONDS", "inf"),
        ("TASK_GRACE_SECONDS", "nan"),
        ("TASK_LEASE_SECONDS", "inf"),
        ("WORKERS", "0"),
        ("NAMESPACE", "a{b}"),
    ],
)
def test_what_would_fail_later_is_refused_at_the_start(name: str, value: str) -> None:
    [problem] = problems(**{name: value})
    assert problem.startswith(f"{name}:")
    assert "hunter2" not in problem


def test_case_does_not_matter_where_it_means_nothing() -> None:
    settings = load_settings({"LOG_LEVEL": "INFO", "ALLOWED_HOSTS": "Example.COM"})
    assert (settings.log_level, settings.allowed_hosts) == ("info", ("example.com",))
