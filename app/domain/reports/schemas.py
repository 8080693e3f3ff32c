"""The request and response bodies of reports."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from app.domain.fields import Body

ReportType = Literal["article_views", "own_activity", "product_catalogue"]
MOST_DAYS = 366
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _as_day(value: object) -> object:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("must be a day as YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_as_day), Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]


class DateRange(Body):
    """Days in UTC. Both belong to it."""

    start: Day
    end: Day

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end < self.start:
            raise ValueError("the end is before the start")
        if self.end - self.start >= timedelta(days=MOST_DAYS):
            raise ValueError(f"a range has at most {MOST_DAYS} days")
        return self


class NewReport(Body):
    type: ReportType
    date_range: DateRange


class ReportFormat(BaseModel):
    format: Literal["csv", "json"] = "json"


@dataclass(frozen=True, slots=True)
class ReportAccepted:
    """`status`: the state of the task. `queue_position`: how many tasks wait before it, null unless it waits."""

    task_id: str
    status: str
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class ReportShown:
    """A report as JSON. Each row is an object with these columns."""

    type: ReportType
    start: date
    end: date
    columns: list[str]
    rows: list[dict[str, Any]]
