"""Where settings come from: the environment before `.env`, and names in them that look mistyped."""

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

FILE = ".env"
# With or without the byte order mark that some editors write.
FILE_ENCODING = "utf-8-sig"
# difflib's ratio, which finds swapped, doubled or missing letters. Other programs' variables that share words with
# ours (REDIS_USER, SECRET_KEY_BASE) are below it.
LIKENESS = 0.85
# A shorter name is similar to too many others.
SHORTEST = 6
# Capitals in words of at most 16. What else stands before a = may be a line of a secret that was wrapped.
_NAME = re.compile(r"[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,16})*")


class BadFile(Exception):
    """`.env` cannot be read, or a line of it is not understood. The message repeats none of its contents."""


class FromVariables(BaseSettings):
    """One field a variable: `redis_url` is REDIS_URL, and so on. Made from the values that it is given, and no more."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        alias_generator=str.upper,
        case_sensitive=True,
        env_ignore_empty=True,
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables that are set, by name. An empty one counts as not set. `lines`: where in `.env` each stands."""

    environment: Mapping[str, str]
    file: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def of(self, cls: type[FromVariables]) -> dict[str, Any]:
        """The values of the fields of `cls`, not validated yet. The environment goes first."""
        source = EnvSettingsSource(cls)
        source.env_vars = {**self.file, **self.environment}
        return source()

    def source_of(self, name: str) -> str:
        return "environment" if name in self.environment else FILE


def read_variables(environ: Mapping[str, str] | None) -> Variables:
    """The environment and `.env`, or `environ` alone. BadFile says what is wrong with the file."""
    if environ is not None:
        return Variables(_set(environ))
    text = _text_of_file()
    lines = _lines(text)
    return Variables(_set(os.environ), _set(dotenv_values(stream=io.StringIO(text))), lines)


def strangers(known: set[str], found: Variables) -> Iterator[str]:
    """A warning for each unknown name in `.env`, and for each in the environment that is similar to a known one.

    A similar name in the environment is another program's when the known one is set too.
    """
    for name in sorted(found.file.keys() - known, key=found.lines.__getitem__):
        meant = _meant(name, known)
        hint = f"; did you mean {meant}?" if meant else ""
        # A value of nothing but = is the padding of base64 and base32.
        is_name = meant or (_NAME.fullmatch(name) and found.file[name].strip("="))
        what = f"{name} in {FILE}" if is_name else f"the name in line {found.lines[name]} of {FILE}"
        yield f"{what} is not a setting, and has no effect{hint}"
    for name in sorted(found.environment.keys() - known - found.file.keys()):
        meant = _meant(name, known) if len(name) >= SHORTEST else None
        if meant and meant not in found.environment.keys() | found.file.keys():
            yield f"{name} in the environment is not a setting, and has no effect; did you mean {meant}?"


def _set(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _meant(name: str, known: set[str]) -> str | None:
    upper = name.upper()
    if any(upper.startswith(f"{other}_") or upper.endswith(f"_{other}") for other in known):
        # Another program's variable, or a variant: REDIS_URL_BACKUP, TEST_DATABASE_URL.
        return None
    return next(iter(get_close_matches(upper, known, n=1, cutoff=LIKENESS)), None)


def _text_of_file() -> str:
    """Nothing where there is no file. To open anything but a regular file could wait forever."""
    path = Path(FILE)
    if not os.path.lexists(path):
        return ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadFile(f"{FILE}: is not a regular file")
        return path.read_text(encoding=FILE_ENCODING)
    except OSError as error:
        raise BadFile(f"{FILE}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{FILE}: is not UTF-8 text") from error


def _lines(text: str) -> dict[str, int]:
    """By name the line where it stands, the last of several.

    python-dotenv would only log a line that it does not understand, and take one without = for a name without a value.
    """
    lines: dict[str, int] = {}
    bad: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts from the empty lines before.
        string = binding.original.string
        line = binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            bad.append(str(line))
        elif binding.key is not None:
            lines[binding.key] = line
    if bad:
        raise BadFile(f"{FILE}: not understood: line {', '.join(bad)}")
    return lines
