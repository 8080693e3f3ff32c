import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import DEVELOPMENT_SECRET_KEY, Settings, SettingsError, load_settings, read_settings
from app.settings_redis import RedisParts
from app.settings_report import without_password

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 32,
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "PUBLIC_URL": "https://example.org",
    "METRICS_TOKEN": "m" * 16,
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
    assert named == {"WORKERS", "BIND", "REDIS_URL", "TRUSTED_PROXIES", "SECRET_KEY", "PUBLIC_URL", "METRICS_TOKEN"}


@pytest.mark.parametrize("secret", ["", "short", DEVELOPMENT_SECRET_KEY])
def test_production_refuses_a_missing_short_or_default_secret(secret: str) -> None:
    assert [p for p in problems(**{**PRODUCTION, "SECRET_KEY": secret}) if p.startswith("SECRET_KEY")]


@pytest.mark.parametrize("token", ["", "m" * 15])
def test_production_refuses_metrics_without_a_token_of_some_length(token: str) -> None:
    [problem] = problems(**{**PRODUCTION, "METRICS_TOKEN": token})
    assert problem.startswith("METRICS_TOKEN: ")
    assert "mmm" not in problem


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


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of `.env` in the working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in (*Settings.model_fields, *RedisParts.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / ".env"


def test_the_file_is_read_and_the_environment_goes_first(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("# a comment\nWORKERS=3\nNAMESPACE='a'\nexport MAX_STREAMS=5\nREDIS_HOST=h\nTRUSTED_HOPS=\n")
    monkeypatch.setenv("NAMESPACE", "b")
    monkeypatch.setenv("MAX_STREAMS", "")
    reading = read_settings()
    found = reading.settings
    assert (found.workers, found.namespace, found.max_streams, found.redis_url) == (3, "b", 5, "redis://h:6379/0")
    assert reading.sources == {
        "WORKERS": ".env",
        "NAMESPACE": "environment",
        "MAX_STREAMS": ".env",
        "REDIS_URL": "REDIS_HOST (.env)",
    }


def test_without_a_file_the_environment_is_all(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND", "127.0.0.1:9000")
    assert read_settings().sources == {"BIND": "environment", "PUBLIC_URL": "BIND"}


def test_the_file_may_begin_with_a_byte_order_mark(env_file: Path) -> None:
    env_file.write_text("WORKERS=3\nREDIS_HOST=h\n", encoding="utf-8-sig")
    reading = read_settings()
    assert (reading.settings.workers, reading.warnings) == (3, ())


def test_given_variables_are_read_alone(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("WORKERS=3\nOTHER=1\n")
    monkeypatch.setenv("NAMESPACE", "other")
    reading = read_settings({})
    assert (reading.settings.workers, reading.settings.namespace) == (1, "quartet")
    assert (reading.sources, reading.warnings) == ({}, ())


def test_problems_of_both_are_listed_at_once(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("SECRET_KEY=hunter2\nENVIRONMENT=production\nREDIS_HOST=h\nREDIS_PORT=hunter2\n")
    monkeypatch.setenv("BIND", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    named = {problem.split(":")[0] for problem in caught.value.problems}
    assert named >= {"SECRET_KEY", "BIND", "REDIS_PORT", "PUBLIC_URL"}
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=1\nSECRET_KEY='hunter2\n", ".env: not understood: line 2"),
        (b"A=1\n\n# secret\n\n  hunter2\nexport B\nC='1\n2'\nD\n", ".env: not understood: line 5, 6, 9"),
        (b"SECRET_KEY=hunter2\xff\n", ".env: is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(env_file: Path, content: bytes, problem: str) -> None:
    env_file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.problems == [problem]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(env_file: Path, make: Callable[[Path], None]) -> None:
    make(env_file)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.problems == [".env: is not a regular file"]


def test_a_link_to_a_file_is_read_and_a_broken_one_refused(env_file: Path) -> None:
    env_file.symlink_to(env_file.parent / "production.env")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings()
    (env_file.parent / "production.env").write_text("WORKERS=3\nREDIS_HOST=h\n")
    assert load_settings().workers == 3


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WROKERS", "WORKERS"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("log_level", "LOG_LEVEL"),
        ("REDIS_PASSWD", "REDIS_PASSWORD"),
        ("TASK_LEASE_SECS", "TASK_LEASE_SECONDS"),
    ],
)
def test_a_mistyped_variable_is_warned_of(name: str, meant: str) -> None:
    [warning] = read_settings({name: "hunter2"}).warnings
    assert warning.startswith(f"{name} in the environment ")
    assert f"did you mean {meant}?" in warning
    assert "hunter2" not in warning


@pytest.mark.parametrize(
    "name",
    ["HOSTNAME", "USER", "REDIS_USER", "REDIS_URL_BACKUP", "TEST_DATABASE_URL", "NEXT_PUBLIC_URL", "SECRET_KEY_BASE"]
    + ["POD_NAMESPACE", "REDIS_PORT_6379_TCP", "REDIS_SERVICE_HOST", "WEB_CONCURRENCY", "REDIS_HOST", "BIN"],
)
def test_a_variable_of_another_program_is_not(name: str) -> None:
    assert read_settings({name: "x"}).warnings == ()


def test_the_likeness_of_a_variable_that_is_set_is_for_another_program() -> None:
    assert read_settings({"DATABASE_URI": "x", "DATABASE_URL": "sqlite+aiosqlite:///x.db"}).warnings == ()


def test_every_unknown_name_in_the_file_is_warned_of(env_file: Path) -> None:
    env_file.write_text("BNID=x\nWROKERS=2\nCOMPOSE_PROJECT_NAME=x\nEMPTY=\nREDIS_HOST=x\nREDIS_DB=1\n")
    warnings = read_settings().warnings
    assert [warning.split()[0] for warning in warnings] == ["BNID", "WROKERS", "COMPOSE_PROJECT_NAME"]
    assert warnings[1].endswith("did you mean WORKERS?")


@pytest.mark.parametrize(
    "line", ["hunter2Zm9v=x", "HUNTER2==", "hunter2/+=x", "HUNTER2HUNTER2HUNTER2=x", "'hunter2'=x"]
)
def test_a_line_of_a_wrapped_secret_is_told_by_its_number(env_file: Path, line: str) -> None:
    env_file.write_text(f"SECRET_KEY=x\n\n{line}\nlog_levl=x\n")
    wrapped, mistyped = read_settings().warnings
    assert wrapped == "the name in line 3 of .env is not a setting, and has no effect"
    assert mistyped == "log_levl in .env is not a setting, and has no effect; did you mean LOG_LEVEL?"


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"REDIS_PORT": "7"}, "REDIS_PORT (environment) has no effect without REDIS_HOST or REDIS_SENTINEL_HOSTS"),
        ({"REDIS_URL": "memory://", "REDIS_HOST": "h"}, "REDIS_HOST (environment) has no effect beside REDIS_URL"),
        ({"REDIS_URL": "memory://", "REDIS_PORT": "x"}, "REDIS_PORT (environment) has no effect beside REDIS_URL"),
        (
            {"REDIS_SENTINEL_HOSTS": "h:1", "REDIS_HOST": "h"},
            "REDIS_HOST (environment) has no effect beside REDIS_SENTINEL_HOSTS",
        ),
        (
            {"REDIS_HOST": "h", "REDIS_SENTINEL_MASTER": "m"},
            "REDIS_SENTINEL_MASTER (environment) has no effect beside REDIS_HOST",
        ),
    ],
)
def test_a_part_of_the_redis_url_without_effect_is_warned_of(given: dict[str, str], warning: str) -> None:
    assert read_settings(given).warnings == (warning,)


def test_a_host_in_the_environment_goes_before_a_url_in_the_file(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("REDIS_URL=redis://file\nREDIS_SENTINEL_HOSTS=file\nREDIS_DB=3\n")
    assert load_settings().redis_url == "redis://file"
    monkeypatch.setenv("REDIS_HOST", "h")
    reading = read_settings()
    assert reading.settings.redis_url == "redis://h:6379/3"
    assert reading.sources["REDIS_URL"] == "REDIS_HOST, REDIS_DB (.env, environment)"
    assert reading.warnings == (
        "REDIS_URL (.env) has no effect beside REDIS_HOST",
        "REDIS_SENTINEL_HOSTS (.env) has no effect beside REDIS_HOST",
    )


@pytest.mark.parametrize("name", ["REDIS_HOST", "REDIS_SENTINEL_HOSTS"])
@pytest.mark.parametrize("value", ["redis://hunter2", "hunter2@h", "a b", "::1", "h/0", ","])
def test_a_host_of_redis_is_a_host(name: str, value: str) -> None:
    [problem] = problems(**{name: value})
    assert problem.startswith(f"{name}: must be ")
    assert "hunter2" not in problem


def test_a_rule_over_several_variables_reads_them_as_they_were_validated() -> None:
    assert load_settings({**PRODUCTION, "REDIS_URL": "memory://", "ALLOW_EMBEDDED_REDIS": "ON"}).is_production
    assert problems(WORKERS="+2")[0].startswith("WORKERS: more than one")
    [problem] = problems(**{**PRODUCTION, "REDIS_URL": "memory://", "ALLOW_EMBEDDED_REDIS": "perhaps"})
    assert problem.startswith("ALLOW_EMBEDDED_REDIS: ")
    [problem] = problems(**{**PRODUCTION, "PUBLIC_URL": "example.org"})
    assert problem.startswith("PUBLIC_URL: ")
    [problem] = problems(WORKERS="2", REDIS_HOST="a b")
    assert problem.startswith("REDIS_HOST: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@h:1/0", "redis://:***@h:1/0"),
        ("redis://ada:hunter2/@hunter2@h", "redis://ada:***@h"),
        (
            "redis+sentinel://:hunter2@a:1,b:2/main/0?sentinel_password=hunter2&sentinel_username=ada",
            "redis+sentinel://:***@a:1,b:2/main/0?sentinel_password=***&sentinel_username=ada",
        ),
        ("redis+cluster://a:1,b:2?password=hunter2", "redis+cluster://a:1,b:2?password=***"),
        ("unix://:hunter2@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ("postgresql+asyncpg://ada@[::1]:5432/db?p%61ss=hunter2", "postgresql+asyncpg://ada@[::1]:5432/db?p%61ss=***"),
        ("postgresql+asyncpg://ada@[::1]:5432/db", "postgresql+asyncpg://ada@[::1]:5432/db"),
        ("sqlite+aiosqlite:///var/a@b.db", "sqlite+aiosqlite:///var/a@b.db"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url: str, shown: str) -> None:
    assert without_password(url) == shown
