"""Crontab lines generated with the values that they match, and a search for their next tick that parses nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from hypothesis import strategies as st

# Leap days of one weekday are at most 40 years apart.
LONGEST_SEARCH_DAYS = 41 * 366


@dataclass(frozen=True)
class CronField:
    text: str
    values: frozenset[int]


@dataclass(frozen=True)
class CronLine:
    minutes: CronField
    hours: CronField
    days: CronField
    months: CronField
    weekdays: CronField

    @property
    def text(self) -> str:
        return " ".join(part.text for part in (self.minutes, self.hours, self.days, self.months, self.weekdays))

    def has_day(self, day: date) -> bool:
        if day.month not in self.months.values:
            return False
        matches = (day.day in self.days.values, day.isoweekday() in self.weekdays.values)
        starred = self.days.text.startswith("*") or self.weekdays.text.startswith("*")
        return all(matches) if starred else any(matches)

    def has_minute(self, moment: datetime) -> bool:
        in_day = moment.minute in self.minutes.values and moment.hour in self.hours.values
        return in_day and self.has_day(moment.date())


def field(text: str, values: Iterable[int]) -> CronField:
    return CronField(text, frozenset(values))


@st.composite
def cron_fields(draw: st.DrawFn, low: int, high: int) -> CronField:
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(2, high))
    forms = [
        field("*", range(low, high + 1)),
        field(str(first), [first]),
        field(f"*/{step}", range(low, high + 1, step)),
        field(f"{first}/{step}", range(first, high + 1, step)),
        field(f"{first}-{last}", range(first, last + 1)),
    ]
    if first < last:
        forms.append(field(f"{first}-{last}/{step}", range(first, last + 1, step)))
    parts = draw(st.lists(st.sampled_from(forms), min_size=1, max_size=2))
    return field(",".join(part.text for part in parts), frozenset().union(*(part.values for part in parts)))


def weekday_fields() -> st.SearchStrategy[CronField]:
    # 0 and 7 are Sunday, which is 7 for isoweekday().
    return cron_fields(0, 7).map(lambda found: field(found.text, (value or 7 for value in found.values)))


@st.composite
def cron_lines(
    draw: st.DrawFn,
    days: st.SearchStrategy[CronField] | None = None,
    months: st.SearchStrategy[CronField] | None = None,
) -> CronLine:
    return CronLine(
        draw(cron_fields(0, 59)),
        draw(cron_fields(0, 23)),
        draw(days if days is not None else cron_fields(1, 31)),
        draw(months if months is not None else cron_fields(1, 12)),
        draw(weekday_fields()),
    )


def next_in_utc(line: CronLine, now: int) -> float | None:
    """The first tick after `now`, epoch seconds; None where there is none."""
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0)
    for ahead in range(LONGEST_SEARCH_DAYS):
        day = midnight + timedelta(days=ahead)
        if not line.has_day(day.date()):
            continue
        for minute in range(1440):
            moment = day + timedelta(minutes=minute)
            if moment.timestamp() > now and line.has_minute(moment):
                return moment.timestamp()
    return None


def next_in_zone(line: CronLine, now: float, zone: tzinfo) -> float | None:
    """The same by the rules of Debian's cron, for a line that is due within nine days; `now` is a whole minute."""
    follows_the_clock = line.minutes.text.startswith("*") or line.hours.text.startswith("*")
    if follows_the_clock:
        moments = (now + 60 * minute for minute in range(1, 9 * 1440))
        return next((each for each in moments if line.has_minute(datetime.fromtimestamp(each, zone))), None)
    start = datetime.fromtimestamp(now, zone).replace(tzinfo=None, fold=0) - timedelta(days=1)
    named = (start + timedelta(minutes=minute) for minute in range(10 * 1440))
    ticks = (_moment_of(each, zone) for each in named if line.has_minute(each))
    return min((tick for tick in ticks if tick > now), default=None)


def _moment_of(local: datetime, zone: tzinfo) -> float:
    """The first moment of a local time that is repeated; the end of the gap for one that is skipped."""
    while True:
        tick = local.replace(tzinfo=zone).timestamp()
        if datetime.fromtimestamp(tick, zone).replace(tzinfo=None) == local.replace(fold=0):
            return tick
        local += timedelta(minutes=1)
