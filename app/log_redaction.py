"""What no log line may hold: secrets, and what a client sent in a body, wherever a message or a traceback has it."""

import re
from functools import lru_cache
from typing import Any

HIDDEN = "***"
# Session ids (256 bits after their bucket) and API keys; tokens that itsdangerous signs, and JSON Web Tokens.
_RANDOM = re.compile(
    r"(?<![\w-])(?:(?:[0-9a-f]{3}\.|[a-z]{2,4}_)[A-Za-z0-9_-]{43}"
    r"|[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{16,})(?![\w-])"
)
_SHORTEST_RANDOM = 38
_CREDENTIALS = re.compile(r"\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
# Values that errors repeat: of pydantic the input, of asyncpg an argument, of PostgreSQL and SQLAlchemy the row.
_VALUES = (
    (re.compile(r"input_value=.*?(?=, input_type=|\]$)", re.MULTILINE), "input_value=***"),
    (re.compile(r"(invalid input for query argument \$\d+:).*"), r"\1 ***"),
    (re.compile(r"^(.*\bDETAIL: ).*", re.MULTILINE), r"\1***"),
    (re.compile(r"^\[parameters: .*", re.MULTILINE), "[parameters: ***]"),
)
_NAMES = re.compile(r"passw|secret|token|authorization|cookie|credential|api_?key|session_id|^body$", re.IGNORECASE)
_DEEPEST = 3


def redact(text: str) -> str:
    """The text with *** in place of secrets and of values from bodies."""
    # Most texts need no search.
    if len(text) >= _SHORTEST_RANDOM:
        text = _RANDOM.sub(HIDDEN, text)
    if "@" in text:
        text = _URL_PASSWORD.sub(r"\1***@", text)
    if " " in text:
        text = _CREDENTIALS.sub(r"\1 ***", text)
        if "\n" in text or "input" in text:
            for pattern, shown in _VALUES:
                text = pattern.sub(shown, text)
    return text


def redacted(name: str, value: Any, *, depth: int = 0) -> Any:
    """The value of a field without them, also where it is a list or a mapping; what lies deep inside one is text."""
    if _is_secret(name):
        return HIDDEN
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict | list | tuple | set | frozenset):
        if depth == _DEEPEST:
            return redact(str(value))
        if isinstance(value, dict):
            return {str(key): redacted(str(key), each, depth=depth + 1) for key, each in value.items()}
        return [redacted("", each, depth=depth + 1) for each in value]
    return value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Whether a field of this name would hold a secret, or a body."""
    return _NAMES.search(name) is not None


def escape(text: str) -> str:
    """The text on one line, without characters that a terminal obeys or that UTF-8 cannot have."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])
