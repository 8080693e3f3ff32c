"""Where settings come from: the environment before `.env`, and names in them that look mistyped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

FILE = ".env"
# With or without the byte order mark that some editors write.
FILE_ENCODING = "utf-8-sig"
# difflib's ratio, which finds swapped, doubled or missing letters. Other programs' variables that share words with
# ours (REDIS_USER, SECRET_KEY_BASE) are below it.
LIKENESS = 0.85
# A shorter name is similar to too many others.
SHORTEST = 6


class BadFile(Exception):
    """`.env` cannot be read, or a line of it is not understood. The message repeats none of its contents."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The values of one class of settings, the source of each, and all variable names that are set."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    in_environment: frozenset[str]
    in_file: frozenset[str]


def read_variables(cls: type[BaseSettings], environ: Mapping[str, str] | None) -> Variables:
    """The variables of the fields of `cls`. An empty one counts as not set. BadFile names what is wrong."""
    environment = EnvSettingsSource(cls)
    file: Mapping[str, Any] = {}
    in_file: frozenset[str] = frozenset()
    if environ is None:
        _check_file()
        dotenv = DotEnvSettingsSource(cls, dotenv_filtering="only_existing")
        file, in_file = dotenv(), frozenset(name for name, value in dotenv.env_vars.items() if value)
    else:
        environment.env_vars = {name: value for name, value in environ.items() if value}
    found = environment()
    sources = {**dict.fromkeys(file, FILE), **dict.fromkeys(found, "environment")}
    return Variables({**file, **found}, sources, frozenset(environment.env_vars), in_file)


def strangers(known: set[str], found: Variables) -> Iterator[str]:
    """A warning for each unknown name in `.env`, and for each in the environment that is similar to a known one.

    A similar name in the environment is another program's when the known one is set too.
    """
    for name in sorted(found.in_file - known):
        hint = f"; did you mean {meant}?" if (meant := _meant(name, known)) else ""
        yield f"{name} in {FILE} is not a setting, and has no effect{hint}"
    for name in sorted(found.in_environment - known - found.in_file):
        meant = _meant(name, known) if len(name) >= SHORTEST else None
        if meant and meant not in found.in_environment | found.in_file:
            yield f"{name} in the environment is not a setting, and has no effect; did you mean {meant}?"


def _meant(name: str, known: set[str]) -> str | None:
    upper = name.upper()
    if any(upper.startswith(f"{other}_") or upper.endswith(f"_{other}") for other in known):
        # Another program's variable, or a variant: REDIS_URL_BACKUP, TEST_DATABASE_URL.
        return None
    return next(iter(get_close_matches(upper, known, n=1, cutoff=LIKENESS)), None)


def _check_file() -> None:
    """BadFile where python-dotenv would log a line that it cannot parse, and ignore it."""
    path = Path(FILE)
    if not path.is_file():
        return
    try:
        with path.open(encoding=FILE_ENCODING) as stream:
            bad = [str(binding.original.line) for binding in parse_stream(stream) if binding.error]
    except OSError as error:
        raise BadFile(f"{FILE}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{FILE}: is not UTF-8 text") from error
    if bad:
        raise BadFile(f"{FILE}: not understood: line {', '.join(bad)}")
