"""The SQL of articles."""

from collections.abc import Mapping, Sequence
from typing import cast

from sqlalchemy import Table, bindparam, delete, func, select, update
from sqlalchemy.orm import defer

from app.db.database import ReadSession, WriteSession
from app.domain.articles.models import Article

# For lists: a page of contents could be a hundred megabytes. Reading one of such an article raises.
_WITHOUT_CONTENT = defer(Article.content, raiseload=True)


async def get_article(session: ReadSession, article_id: int) -> Article | None:
    return await session.get(Article, article_id)


async def get_article_for_update(session: WriteSession, article_id: int) -> Article | None:
    """Locks the row until this transaction ends."""
    return await session.scalar(select(Article).where(Article.id == article_id).with_for_update())


async def list_articles(session: ReadSession, *, offset: int, limit: int) -> tuple[Sequence[Article], int]:
    """A page, the latest first, and the number of all articles."""
    latest = select(Article).options(_WITHOUT_CONTENT).order_by(Article.published_at.desc(), Article.id.desc())
    total = await session.scalar(select(func.count()).select_from(Article))
    return await session.scalars(latest.offset(offset).limit(limit)), total or 0


async def list_popular(session: ReadSession, *, limit: int) -> Sequence[Article]:
    most_read = select(Article).options(_WITHOUT_CONTENT).order_by(Article.views.desc(), Article.id.desc())
    return await session.scalars(most_read.limit(limit))


async def list_by_author(session: ReadSession, author_id: int, *, limit: int) -> Sequence[Article]:
    """The latest first."""
    by_author = select(Article).options(_WITHOUT_CONTENT).where(Article.author_id == author_id)
    return await session.scalars(by_author.order_by(Article.published_at.desc(), Article.id.desc()).limit(limit))


async def create_article(session: WriteSession, article: Article) -> None:
    """Sets the article's id."""
    session.add(article)
    await session.flush()


async def update_views(session: WriteSession, views: Mapping[int, int]) -> None:
    """Add to the articles' views, by article id. Ids without an article are ignored."""
    table = cast(Table, Article.__table__)
    add = update(table).where(table.c.id == bindparam("article")).values(views=table.c.views + bindparam("more"))
    await session.execute(add, [{"article": each, "more": more} for each, more in sorted(views.items())])


async def delete_article(session: WriteSession, article_id: int) -> None:
    await session.execute(delete(Article).where(Article.id == article_id))
