"""What the service takes from the articles."""

from app.domain.articles import pages
from app.domain.articles.models import Article
from app.domain.articles.routes import blueprint
from app.domain.articles.seed import publish_demo_articles
from app.domain.articles.tasks import SCHEDULE, TASKS
from app.domain.articles.views import METRICS
from app.domain.slice import Slice

SLICE = Slice(
    blueprint=blueprint,
    pages=pages.blueprint,
    links=pages.LINKS,
    tables=(Article,),
    unmapped=("articles_search",),
    tasks=TASKS,
    schedule=SCHEDULE,
    seed=publish_demo_articles,
    metrics=METRICS,
)
