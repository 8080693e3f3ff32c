"""What `quartet settings` prints: every setting with its value and source, and no secret."""

import re
from typing import Any
from urllib.parse import unquote

from app.settings import Reading, Settings

HIDDEN = "***"
# The longest part that can be a password, so that one with an unquoted / or @ is hidden too.
_PASSWORD = re.compile(r"(?<=://)([^:@/]*):.*@", re.DOTALL)
_OPTION = re.compile(r"([?&])([^=&]*)=([^&]*)")
_SECRET_OPTION = re.compile(r"pass|secret|token|key|cred|auth", re.IGNORECASE)


def report(reading: Reading) -> dict[str, dict[str, Any]]:
    """By variable, its `value` as JSON and its `source`: default, environment, .env, or other variables."""
    values = reading.settings.model_dump(mode="json", by_alias=True)
    return {
        name.upper(): {
            "value": _public(values[name.upper()], name) if not field.repr else values[name.upper()],
            "source": reading.sources.get(name.upper(), "default"),
        }
        for name, field in Settings.model_fields.items()
    }


def table(reading: Reading) -> str:
    """The same as text in three columns."""
    rows = [("SETTING", "VALUE", "FROM")]
    rows += [(name, _text(entry["value"]), entry["source"]) for name, entry in report(reading).items()]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows)


def without_password(url: str) -> str:
    """`url` with its password, and each option that may hold one, replaced by ***."""
    return _OPTION.sub(_option, _PASSWORD.sub(rf"\1:{HIDDEN}@", url))


def _option(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return f"{mark}{name}={HIDDEN if _SECRET_OPTION.search(unquote(name)) else value}"


def _public(secret: str, name: str) -> str:
    if not secret:
        return ""
    return without_password(secret) if name.endswith("_url") else HIDDEN


def _text(value: Any) -> str:
    """A value as the variable would be written."""
    return ",".join(value) if isinstance(value, list) else str(value)
