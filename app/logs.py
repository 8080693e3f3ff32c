"""Logs: one line a record, whichever library it comes from; JSON in production, for people in development."""

import logging
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from io import UnsupportedOperation
from typing import Any, TextIO

import msgspec
import structlog

from app.log_redaction import escape, redact, redacted, text_of
from app.log_writing import WritingHandler

# What any record has; the rest is what its call has given as `extra`.
_OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_RESERVED = frozenset({"timestamp", "level", "logger", "event", "exception", "stack"})

Fields = Callable[[], Mapping[str, Any]]
Line = MutableMapping[str, Any]


class FieldsFilter(logging.Filter):
    """Adds the fields of the place that logs, such as its request, to each record that does not state them itself."""

    def __init__(self, *sources: Fields) -> None:
        super().__init__()
        self._sources = sources

    def filter(self, record: logging.LogRecord) -> bool:
        stated = record.__dict__
        for fields in self._sources:
            for name, value in fields().items():
                stated.setdefault(name, value)
        return True


class JSONFormatter(logging.Formatter):
    """One JSON object a record: timestamp (RFC 3339, UTC), level, logger, event, its fields, and its exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record, datetime.fromtimestamp(record.created, UTC))
        try:
            return _encode(line).decode()
        except (ValueError, OverflowError):
            # Text that UTF-8 cannot have, or a number that JSON cannot: the line loses its form, and nothing else.
            return _encode({escape(name): escape(text_of(value)) for name, value in line.items()}).decode()


class ConsoleFormatter(logging.Formatter):
    """For people: the time with its zone, then as structlog's ConsoleRenderer. `colors`: for a terminal."""

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self.colors = colors
        # Its own choice would be rich, where that is installed, which shows the values of local variables.
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _console_formatter, (self.colors,)

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone()
        line = _line(record, time.isoformat(sep=" ", timespec="milliseconds"))
        shown = {escape(name): _shown(name, value) for name, value in line.items()}
        rendered: Any = self._render(None, record.levelname.lower(), shown)
        return str(rendered)


def _console_formatter(colors: bool) -> ConsoleFormatter:
    return ConsoleFormatter(colors=colors)


def make_formatter(*, is_production: bool) -> logging.Formatter:
    """JSON in production; otherwise for people, in colour where standard error is a terminal. It can be pickled."""
    if is_production:
        return JSONFormatter()
    return ConsoleFormatter(colors=sys.stderr is not None and sys.stderr.isatty())


def configure(level: str, *, is_production: bool, fields: Sequence[Fields]) -> None:
    """Log everything to standard error, the records of libraries and of structlog's own loggers too."""
    handler = _handler(sys.stderr)
    handler.addFilter(FieldsFilter(*fields))
    handler.setFormatter(make_formatter(is_production=is_production))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _handler(stream: TextIO | None) -> logging.Handler:
    if stream is None:
        # Closed at the start: its number may be that of a connection by now.
        return logging.NullHandler()
    try:
        return WritingHandler(stream.fileno())
    except UnsupportedOperation:
        # What a program has put in its place.
        return logging.StreamHandler(stream)


def _line(record: logging.LogRecord, timestamp: Any) -> Line:
    line: Line = {
        "timestamp": timestamp,
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": redact(_message(record)),
    }
    for name, value in record.__dict__.items():
        if name not in _OWN and value is not None:
            line[f"{name}_" if name in _RESERVED else name] = redacted(name, value)
    if record.exc_info and record.exc_info[1]:
        # Without the values of local variables.
        line["exception"] = redact(_traceback(record.exc_info[1]))
    if record.stack_info:
        line["stack"] = redact(record.stack_info)
    return line


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except Exception:
        return type(error).__name__


def _shown(name: str, value: Any) -> Any:
    """For a terminal. A traceback keeps its lines."""
    if name in ("exception", "stack"):
        return "\n".join([escape(line) for line in value.split("\n")])
    return escape(value) if isinstance(value, str) else value


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # Not the arguments: nothing says what they hold.
        return f"{text_of(record.msg)} (its arguments do not fit)"


_encode = msgspec.json.encode
