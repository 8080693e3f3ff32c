"""What no log line may hold: secrets, and what a client sent in a body, wherever a message or a traceback has it."""

import re
from functools import lru_cache
from itertools import islice
from typing import Any

HIDDEN = "***"
# Session ids (256 bits after their bucket) and API keys; tokens that itsdangerous signs, and JSON Web Tokens.
_RANDOM = re.compile(
    r"(?<![\w-])(?:(?:[0-9a-f]{3}\.|[a-z]{2,4}_)[A-Za-z0-9_-]{43}"
    r"|[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{16,})(?![\w-])"
)
_SHORTEST_RANDOM = 38
_CREDENTIALS = re.compile(r"\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
# A password may have any character that its writer has not escaped; a port is none.
_URL_PASSWORD = re.compile(r"(://(?::|[^/\s:@]{1,256}:(?!\d+(?:[/?#,\s]|$))))\S{0,1024}@")
_NAME = r"passw|secret|token|authorization|cookie|credential|api[_-]?key|session[_-]?id"
# What follows such a name in a query, a call, a mapping or a list of pairs; and a header, which ends with its line.
_QUOTED = r"""b?\\?"(?:[^"\\]|\\[^"])*|b?\\?'(?:[^'\\]|\\[^'])*"""
_NAMED_VALUE = re.compile(
    rf"""((?:{_NAME})[\w.-]{{0,40}}(?:\\?["']\s?[:,]|=)\s?)(?:{_QUOTED}|[^\s&;,)\]}}"'\\]+)""", re.IGNORECASE
)
_HEADER = re.compile(
    r"\b((?:Proxy-)?Authorization|(?:Set-)?Cookie|X-Session-ID|(?:X-)?API-Key|X-CSRF-Token)(: ?).*", re.IGNORECASE
)
# Values that errors repeat: of pydantic the input, of asyncpg an argument, of PostgreSQL and SQLAlchemy the row.
_VALUES = (
    (re.compile(r"input_value=.*?(, input_type=|\]?$)", re.MULTILINE), r"input_value=***\1"),
    (re.compile(r"(invalid input for query argument \$\d+:).*"), r"\1 ***"),
    (re.compile(r"^(.*\bDETAIL: ).*", re.MULTILINE), r"\1***"),
    (re.compile(r"^\[parameters: .*", re.MULTILINE), "[parameters: ***]"),
)
_SECRET_NAME = re.compile(rf"{_NAME}|^body$", re.IGNORECASE)
_DEEPEST = 3
# Of JSON's readers many know no larger integer.
_LARGEST = 1 << 63
MOST_ITEMS = 100
LONGEST_TEXT = 16_384


def redact(text: str) -> str:
    """The text with *** in place of secrets and of values from bodies. A long one loses its middle."""
    if len(text) > LONGEST_TEXT:
        half = LONGEST_TEXT // 2
        text = f"{text[:half]} ... {len(text) - 2 * half} characters ... {text[-half:]}"
    # Most texts need no search.
    if len(text) >= _SHORTEST_RANDOM:
        text = _RANDOM.sub(HIDDEN, text)
    if "@" in text:
        text = _URL_PASSWORD.sub(r"\1***@", text)
    if "=" in text or ":" in text or "," in text:
        text = _HEADER.sub(r"\1\2***", text)
        text = _NAMED_VALUE.sub(r"\1***", text)
    if " " in text:
        text = _CREDENTIALS.sub(r"\1 ***", text)
        if "\n" in text or "input" in text:
            for pattern, shown in _VALUES:
                text = pattern.sub(shown, text)
    return text


def redacted(name: str, value: Any, *, depth: int = 0) -> Any:
    """The value of a field without them, of types that JSON has; what lies deep in a list or mapping is text.

    Of a long list or mapping it has the first MOST_ITEMS.
    """
    if _is_secret(name):
        return HIDDEN
    if type(value) is float or (type(value) is int and abs(value) < _LARGEST):
        return value
    if isinstance(value, dict | list | tuple | set | frozenset) and depth < _DEEPEST:
        if isinstance(value, dict):
            items = islice(value.items(), MOST_ITEMS)
            return {name: redacted(name, each, depth=depth + 1) for name, each in ((text_of(k), v) for k, v in items)}
        return [redacted("", each, depth=depth + 1) for each in islice(value, MOST_ITEMS)]
    # An object of any other class could have fields that are secrets.
    return value if value is None or isinstance(value, bool) else redact(text_of(value))


def text_of(value: Any) -> str:
    """str(), or the class of an object that fails to say it."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Whether a field of this name would hold a secret, or a body."""
    return _SECRET_NAME.search(name) is not None


def escape(text: str) -> str:
    """The text on one line, without characters that a terminal obeys or that UTF-8 cannot have."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])
