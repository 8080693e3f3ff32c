"""Articles: reads through the cache, and writes together with their events, tasks and invalidations."""

import asyncio
from collections.abc import Sequence

from app.db.base import now
from app.domain.articles import store
from app.domain.articles.models import Article
from app.domain.articles.schemas import (
    ArticleList,
    ArticlePage,
    ArticlesAfter,
    SearchPage,
    Versioned,
    listed,
    versioned,
)
from app.domain.articles.search import words_of
from app.domain.articles.tags import article_tags, tags_of
from app.domain.articles.tasks import Edit, process_article
from app.domain.articles.views import count_view, forget_views
from app.domain.fields import Page
from app.domain.paging import place_of, to_cursor
from app.domain.users.service import require_account
from app.errors import Forbidden, NotFound
from app.kit.cache.memoize import memoize
from app.preconditions import UNCONDITIONAL, WriteCondition
from app.principal import Principal
from app.resources import Resources

MOST_POPULAR = 10
MOST_BY_AUTHOR = 100
MOST_FOUND = 1000


async def list_articles(resources: Resources, page: Page) -> ArticlePage:
    async with resources.database.read(primary=True) as session:
        found, total = await store.list_articles(session, offset=page.offset, limit=page.per_page)
    pages = -(-total // page.per_page)
    cursor = _cursor_after(found) if page.page < pages else None
    return ArticlePage([listed(each) for each in found], total, pages, page.page, cursor)


async def list_articles_after(resources: Resources, cursor: str, *, limit: int) -> ArticlesAfter:
    """Each article once, however many are published while a reader goes through them."""
    async with resources.database.read() as session:
        # One more than is shown tells whether there are more.
        found = await store.list_articles_before(session, store.Place(*place_of(cursor)), limit=limit + 1)
    shown = found[:limit]
    return ArticlesAfter([listed(each) for each in shown], _cursor_after(shown) if len(found) > limit else None)


async def search_articles(resources: Resources, query: str, page: Page) -> SearchPage:
    """Of the last MOST_FOUND articles that have all words of `query`, of which there is one at least."""
    async with resources.database.read() as session:
        found, total = await store.search_articles(
            session, words_of(query), offset=page.offset, limit=page.per_page, most=MOST_FOUND
        )
    return SearchPage([listed(each) for each in found], total, -(-total // page.per_page), page.page)


def _cursor_after(found: Sequence[Article]) -> str | None:
    return to_cursor(found[-1].published_at, found[-1].id) if found else None


async def list_popular(resources: Resources) -> ArticleList:
    async with resources.database.read(primary=True) as session:
        return ArticleList([listed(each) for each in await store.list_popular(session, limit=MOST_POPULAR)])


async def list_by_author(resources: Resources, author_id: int) -> ArticleList:
    """The latest hundred. NotFound when there is no such user."""
    await require_account(resources, author_id)
    async with resources.database.read(primary=True) as session:
        found = await store.list_by_author(session, author_id, limit=MOST_BY_AUTHOR)
    return ArticleList([listed(each) for each in found])


@memoize(ttl_seconds=300, tags=lambda article_id: article_tags(article_id), type=Versioned)
async def get_article(resources: Resources, article_id: int) -> Versioned:
    """NotFound is not cached."""
    async with resources.database.read(primary=True) as session:
        return versioned(_found(await store.get_article(session, article_id)))


async def read_article(resources: Resources, article_id: int) -> Versioned:
    """The article; counts a view. On a cache hit both cost one round trip."""
    reading = asyncio.gather(get_article(resources, article_id), count_view(resources, article_id))
    try:
        article, _ = await reading
    except NotFound:
        await forget_views(resources, article_id)
        raise
    return article


async def create_article(resources: Resources, principal: Principal, *, title: str, content: str) -> Versioned:
    moment = now()
    article = Article(
        author_id=principal.user_id,
        title=title,
        content=content,
        summary=None,
        keywords=[],
        views=0,
        version=1,
        processed_version=0,
        published_at=moment,
        updated_at=moment,
    )
    async with resources.database.write() as session:
        await store.create_article(session, article)
        await store.update_words(session, article.id, words_of(title, content))
        data = {"id": article.id, "title": title, "author_id": principal.user_id}
        resources.outbox.event(session, "broadcast", "article_created", data)
        resources.outbox.task(session, process_article, Edit(article.id, article.version))
        resources.outbox.invalidate(session, *tags_of(article))
    return versioned(article)


async def change_article(
    resources: Resources,
    principal: Principal,
    article_id: int,
    *,
    title: str,
    content: str,
    condition: WriteCondition = UNCONDITIONAL,
) -> Versioned:
    """`condition`: of the version. PreconditionFailed where it does not hold."""
    async with resources.database.write() as session:
        article = _writable(await store.get_article_for_update(session, article_id), principal, condition)
        article.title, article.content = title, content
        article.version += 1
        article.updated_at = now()
        await store.update_words(session, article.id, words_of(title, content))
        resources.outbox.event(session, "broadcast", "article_changed", {"id": article.id, "title": title})
        resources.outbox.task(session, process_article, Edit(article.id, article.version))
        resources.outbox.invalidate(session, *tags_of(article))
    return versioned(article)


async def delete_article(
    resources: Resources, principal: Principal, article_id: int, *, condition: WriteCondition = UNCONDITIONAL
) -> None:
    """`condition` as in change_article()."""
    async with resources.database.write() as session:
        article = _writable(await store.get_article_for_update(session, article_id), principal, condition)
        await store.delete_article(session, article_id)
        resources.outbox.event(session, "broadcast", "article_deleted", {"id": article_id})
        resources.outbox.invalidate(session, *tags_of(article))


def may_write(principal: Principal, author_id: int | None) -> bool:
    """The author, and admins."""
    return principal.is_admin or author_id == principal.user_id


def _found(article: Article | None) -> Article:
    if article is None:
        raise NotFound("There is no such article.")
    return article


def _writable(article: Article | None, principal: Principal, condition: WriteCondition) -> Article:
    article = _found(article)
    if not may_write(principal, article.author_id):
        raise Forbidden("This article is not yours.")
    condition.require(str(article.version))
    return article
