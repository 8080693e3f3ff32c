"""What is wrong in the settings ends each command with one line that names the variable, and exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.factory import check_urls
from app.settings import Settings, SettingsError, load_settings
from app.settings_redis import RedisParts
from tests.commands import environment, quartet

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k" * 32,
    "REDIS_URL": "redis://127.0.0.1:1",
    "PUBLIC_URL": "https://example.org",
    "METRICS_TOKEN": "m" * 16,
}
SECRET = "hunter2"
# What is set, what the line begins with, and what it says.
WRONG = [
    ({"ENVIRONMENT": "staging"}, "ENVIRONMENT", "'development', 'testing' or 'production'"),
    ({"LOG_LEVEL": "verbose"}, "LOG_LEVEL", "'debug', 'info', 'warning' or 'error'"),
    ({"WORKERS": "many"}, "WORKERS", "valid integer"),
    ({"WORKERS": "2"}, "WORKERS", "needs a Redis server"),
    ({"BIND": "localhost"}, "BIND", "host:port"),
    ({"BIND": "127.0.0.1:70000"}, "BIND", "port from 1 to 65535"),
    ({"PUBLIC_URL": "example.org"}, "PUBLIC_URL", "should match pattern"),
    ({"TLS_CERTIFICATE": "a.pem"}, "TLS_CERTIFICATE and TLS_KEY", "the one needs the other"),
    ({"REDIRECT_BIND": "127.0.0.1:8080"}, "REDIRECT_BIND", "no effect without TLS_CERTIFICATE"),
    ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "TRUSTED_PROXIES", "network"),
    ({"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "1"}, "CORS_CREDENTIALS", "by name"),
    ({"REDIS_URL": f"http://:{SECRET}@cache"}, "REDIS_URL", "must start with one of"),
    ({"REDIS_URL": f"redis://:{SECRET}@cache:port"}, "REDIS_URL", "the port of host cache"),
    ({"REDIS_HOST": "cache", "REDIS_PORT": "0"}, "REDIS_PORT", "greater than or equal to 1"),
    ({"NAMESPACE": "a b"}, "NAMESPACE", ""),
    ({"DATABASE_URL": f"mysql://u:{SECRET}@db/x"}, "DATABASE_URL", "must start with one of"),
    ({"DATABASE_URL": f"postgresql+asyncpg://u:{SECRET}@db/x?sslmod=require"}, "DATABASE_URL", "sslmod"),
    ({"SMTP_URL": f"mail://u:{SECRET}@host"}, "SMTP_URL", "smtp"),
    ({"ARGON2_MEMORY_KIB": "8", "ARGON2_PARALLELISM": "2"}, "ARGON2_MEMORY_KIB", "8 times ARGON2_PARALLELISM"),
    ({"CONSUMER_QUEUES": "mail"}, "CONSUMER_QUEUES", "no such queue in TASK_QUEUES"),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT", "should match pattern"),
    (PRODUCTION | {"SECRET_KEY": SECRET}, "SECRET_KEY", "at least 32 characters"),
    (PRODUCTION | {"METRICS_TOKEN": ""}, "METRICS_TOKEN", "must be set in production"),
    (PRODUCTION | {"REDIS_URL": "memory://"}, "REDIS_URL", "forgets everything at exit"),
    (PRODUCTION | {"PUBLIC_URL": ""}, "PUBLIC_URL", "must be set in production"),
]


@pytest.mark.parametrize(("given", "name", "says"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    tmp_path: Path, given: dict[str, str], name: str, says: str
) -> None:
    done = quartet(tmp_path, "serve", **given)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: the settings are not valid: {name}: ")
    assert says in line
    assert SECRET not in line
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_server_that_loads_the_application_says_it_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import app.asgi"]
    environ = environment({"WORKERS": "many", "BIND": "x"})
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == ["the settings are not valid", "BIND", "WORKERS"]


HUGE = "9" * 30
VALUES = ["garbage", "-1", HUGE, "1" * 5000, "1e400", "nan", "-inf", "\n", "a\x00b", "\ud800", "\u202e", "a" * 100_000]
VALUES += [
    "[",
    "{}",
    "null",
    "1,2,,3",
    "0x10",
    "\u0661\u0662",
    "../..",
    "%",
    f"redis://u:{SECRET}@[",
    f"redis://h/{HUGE}",
]
VALUES += [f"redis://u:{SECRET}@h:{'1' * 5000}", f"postgresql+asyncpg://u:{SECRET}@h:99999/x", "https://a:99999"]
VALUES += [f"postgresql+asyncpg://u:{SECRET}@/x?host=a:99999", f"postgresql+asyncpg://u:{SECRET}@[/x?port=0x1"]


@pytest.mark.parametrize("name", [name.upper() for cls in (Settings, RedisParts) for name in cls.model_fields])
def test_each_variable_takes_or_refuses_each_value_in_a_line(name: str) -> None:
    for value in VALUES:
        try:
            settings = load_settings({name: value})
            check_urls(settings)
        except SettingsError as error:
            for problem in error.problems:
                assert problem.isprintable(), problem
                assert len(problem) < 1000
                assert SECRET not in problem
        else:
            # A number that is taken is one that Redis and the system have.
            found = getattr(settings, name.lower(), None)
            assert not isinstance(found, int | float) or abs(found) <= 1 << 40, value
            assert not isinstance(found, str) or found.isprintable(), value
