"""A report as CSV (RFC 4180) or as JSON, encoded part by part."""

import csv
from collections.abc import AsyncIterator, Sequence
from io import StringIO
from typing import Any

import msgspec

from app.domain.reports.models import Report

# Spreadsheets take a text that begins so for a formula (OWASP, "CSV injection"); the wide forms too.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def as_csv(columns: Sequence[str], parts: AsyncIterator[list[list[Any]]]) -> AsyncIterator[bytes]:
    yield _lines([columns])
    async for rows in parts:
        yield _lines([[_cell(value) for value in row] for row in rows])


async def as_json(
    report: Report, columns: Sequence[str], parts: AsyncIterator[list[list[Any]]]
) -> AsyncIterator[bytes]:
    """An object in the form of ReportShown."""
    head = {"type": report.type, "start": report.start, "end": report.end, "columns": columns}
    yield msgspec.json.encode(head)[:-1] + b',"rows":['
    is_first = True
    async for rows in parts:
        encoded = msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in rows])[1:-1]
        yield encoded if is_first else b"," + encoded
        is_first = False
    yield b"]}"


def _cell(value: object) -> object:
    """A text that a spreadsheet would compute is shown as it is: an apostrophe stands before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
