"""The SQL of articles."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ColumnClause,
    Select,
    Table,
    TextClause,
    bindparam,
    column,
    delete,
    func,
    literal,
    select,
    table,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import defer

from app.db.base import UtcDateTime
from app.db.database import ReadSession, WriteSession
from app.domain.articles.models import Article


class Place(NamedTuple):
    """Where an article stands among all, ordered by these two."""

    published_at: datetime
    id: int


# For lists: a page of contents could be a hundred megabytes. Reading one of such an article raises.
_WITHOUT_CONTENT = defer(Article.content, raiseload=True)


async def get_article(session: ReadSession, article_id: int) -> Article | None:
    return await session.get(Article, article_id)


async def get_article_for_update(session: WriteSession, article_id: int) -> Article | None:
    """Locks the row until this transaction ends."""
    return await session.scalar(select(Article).where(Article.id == article_id).with_for_update())


async def list_articles(session: ReadSession, *, offset: int, limit: int) -> tuple[Sequence[Article], int]:
    """A page, the latest first, and the number of all articles."""
    order = (Article.published_at.desc(), Article.id.desc())
    # The index alone is read up to the offset, and only the rows of the page.
    ids = select(Article.id).order_by(*order).offset(offset).limit(limit)
    total = await session.scalar(select(func.count()).select_from(Article))
    page = select(Article).options(_WITHOUT_CONTENT).where(Article.id.in_(ids)).order_by(*order)
    return await session.scalars(page), total or 0


async def list_articles_before(session: ReadSession, place: Place, *, limit: int) -> Sequence[Article]:
    """The latest of the articles that stand after `place` in the order of list_articles()."""
    here = tuple_(literal(place.published_at, UtcDateTime()), literal(place.id))
    earlier = select(Article).options(_WITHOUT_CONTENT).where(tuple_(Article.published_at, Article.id) < here)
    return await session.scalars(earlier.order_by(Article.published_at.desc(), Article.id.desc()).limit(limit))


async def search_articles(
    session: ReadSession, words: Sequence[str], *, offset: int, limit: int, most: int
) -> tuple[Sequence[Article], int]:
    """A page of the last `most` articles that have all of these words, the last first, and the number of them."""
    found = _ids_with(session, words).limit(most).subquery()
    number = found.columns[0]
    ids = select(number).order_by(number.desc()).offset(offset).limit(limit)
    page = select(Article).options(_WITHOUT_CONTENT).where(Article.id.in_(ids)).order_by(Article.id.desc())
    total = await session.scalar(select(func.count()).select_from(found))
    return await session.scalars(page), total or 0


def _ids_with(session: ReadSession, words: Sequence[str]) -> Select[Any]:
    """The last first: with a limit it is then read from the index of the words, or from the last row back where the
    words are frequent, and either way little is read."""
    # The words have no quotes in them, and none is read as an operator.
    if session.dialect == "sqlite":
        match = text("articles_search MATCH :words").bindparams(words=" ".join(f'"{word}"' for word in words))
        return _last(column("rowid"), match)
    match = text("words @@ CAST(:words AS tsquery)").bindparams(words=" & ".join(f"'{word}'" for word in words))
    return _last(column("article_id"), match)


def _last(number: ColumnClause[int], match: TextClause) -> Select[Any]:
    return select(number).select_from(table("articles_search")).where(match).order_by(number.desc())


async def update_words(session: WriteSession, article_id: int, words: Sequence[str]) -> None:
    """Set the words by which an article is found. They are deleted with the article."""
    if session.dialect == "sqlite":
        statement = "INSERT OR REPLACE INTO articles_search (rowid, words) VALUES (:id, :words)"
    else:
        statement = (
            "INSERT INTO articles_search (article_id, words) "
            "VALUES (:id, array_to_tsvector(string_to_array(:words, ' '))) "
            "ON CONFLICT (article_id) DO UPDATE SET words = excluded.words"
        )
    await session.execute(text(statement).bindparams(id=article_id, words=" ".join(words)))


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
