"""The tasks of articles, and when the recurring one runs."""

from app.domain.articles.processing import process_article
from app.domain.articles.views import flush_views
from app.kit.tasks.schedule import Every

TASKS = (process_article, flush_views)
SCHEDULE = (Every(flush_views, seconds=60),)
