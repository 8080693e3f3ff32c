"""What the service takes from the reports."""

from app.domain.reports import pages
from app.domain.reports.models import Report, ReportPart
from app.domain.reports.routes import blueprint
from app.domain.reports.tasks import SCHEDULE, TASKS
from app.domain.slice import Slice

SLICE = Slice(
    blueprint=blueprint,
    pages=pages.blueprint,
    links=pages.LINKS,
    tables=(Report, ReportPart),
    tasks=TASKS,
    schedule=SCHEDULE,
)
