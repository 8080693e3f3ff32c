"""The task that makes an article's summary and keywords after each edit, in a child process."""

from anyio import to_process
from msgspec import Struct

from app.domain.articles import store
from app.domain.articles.extraction import extract
from app.domain.articles.models import Article
from app.domain.articles.tags import tags_of
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources


class Edit(Struct, frozen=True):
    """An article as it was at one of its versions."""

    article_id: int
    version: int


@task(timeout_seconds=60)
async def process_article(context: TaskContext, edit: Edit) -> None:
    """Idempotent. Does nothing when a later edit has its own task, or the article was deleted."""
    resources: Resources = context.resources
    async with resources.database.read(primary=True) as reading:
        article = await store.get_article(reading, edit.article_id)
    if article is None or not _is_wanted(article, edit):
        return
    found = await to_process.run_sync(extract, article.title, article.content, cancellable=True)
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
