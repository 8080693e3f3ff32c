"""The tasks of articles, and when the recurring one runs."""

from msgspec import Struct
from redis.exceptions import ResponseError

from app.domain.articles import store
from app.domain.articles.extraction import extract
from app.domain.articles.models import Article
from app.domain.articles.tags import tags_of
from app.domain.articles.views import views_key
from app.kit.tasks.context import TaskContext
from app.kit.tasks.schedule import Every
from app.kit.tasks.task import task
from app.resources import Resources

VIEWS_BATCH = 500
# RENAMENX where no view has been counted.
NO_SUCH_KEY = "no such key"


class Edit(Struct, frozen=True):
    """An article as it was at one of its versions."""

    article_id: int
    version: int


@task(timeout_seconds=60)
async def process_article(context: TaskContext, edit: Edit) -> None:
    """Make an article's summary and keywords, in a child process, after an edit.

    Does nothing when they have been made, when a later edit has its own task, or when the article is deleted.
    """
    resources: Resources = context.resources
    async with resources.database.read(primary=True) as reading:
        article = await store.get_article(reading, edit.article_id)
    if article is None or not _is_wanted(article, edit):
        return
    found = await context.run_in_process(extract, article.title, article.content)
    async with resources.database.write() as session:
        article = await store.get_article_for_update(session, edit.article_id)
        if article is None or not _is_wanted(article, edit):
            return
        article.summary, article.keywords = found.summary, found.keywords
        article.processed_version = edit.version
        data = {"id": article.id, "summary": found.summary, "keywords": found.keywords}
        resources.outbox.event(session, "broadcast", "article_processed", data)
        resources.outbox.invalidate(session, *tags_of(article))


def _is_wanted(article: Article, edit: Edit) -> bool:
    return article.version == edit.version and article.processed_version < edit.version


@task(timeout_seconds=50, max_attempts=1)
async def flush_views(context: TaskContext) -> int:
    """Move the view counts into the database; returns of how many articles. The next run moves what this one leaves.

    A worker that dies between a commit and the HDEL after it counts one batch twice.
    """
    resources: Resources = context.resources
    redis, counted_views = resources.redis, views_key(resources)
    taken = f"{counted_views}:taken"
    try:
        # Does nothing where an earlier run has left counts: they come first.
        await redis.renamenx(counted_views, taken)
    except ResponseError as error:
        if str(error) != NO_SUCH_KEY:
            raise
    counted = [(int(article_id), int(views)) for article_id, views in (await redis.hgetall(taken)).items()]
    for start in range(0, len(counted), VIEWS_BATCH):
        batch = dict(counted[start : start + VIEWS_BATCH])
        async with resources.database.write() as session:
            await store.update_views(session, batch)
        await redis.hdel(taken, *map(str, batch))
    return len(counted)


TASKS = (process_article, flush_views)
SCHEDULE = (Every(flush_views, seconds=60),)
