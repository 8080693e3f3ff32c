"""The tasks of articles, and the schedule of the recurring one."""

from app.domain.articles.processing import process_article
from app.domain.articles.views import flush_views
from app.kit.tasks.schedule import Every

TASKS = (process_article, flush_views)
SCHEDULE = (Every(flush_views, seconds=60),)
