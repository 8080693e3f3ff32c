"""Where the rows of each type of report come from: its columns, and queries that are read in chunks by a key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, literal, select, tuple_

from app.db.database import ReadSession
from app.domain.articles.models import Article
from app.domain.messages.models import Message
from app.domain.messages.schemas import preview
from app.domain.products.models import Category, Product
from app.domain.products.prices import to_price
from app.domain.reports.schemas import ReportType

Cells = tuple[Any, ...]
# The key of the last row that was read.
Position = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose report it is, and from when to when: `end` does not belong to it."""

    owner_id: int
    start: datetime
    end: datetime

    @classmethod
    def of_days(cls, owner_id: int, start: date, end: date) -> "Scope":
        """`end` is the last day."""
        midnight = time(tzinfo=UTC)
        return cls(owner_id, datetime.combine(start, midnight), datetime.combine(end, midnight) + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a report. `key` orders them; it never changes, so that no row is read twice. `cells` gets a row."""

    key: tuple[Any, ...]
    query: Callable[[Scope], Select[*Cells]]
    cells: Callable[[Row[*Cells]], Cells]

    async def count(self, session: ReadSession, scope: Scope, *, most: int) -> int:
        """Counts up to `most`."""
        found = self.query(scope).with_only_columns(literal(1)).limit(most)
        return await session.scalar(select(func.count()).select_from(found.subquery())) or 0

    async def list(
        self, session: ReadSession, scope: Scope, *, after: Position | None, limit: int
    ) -> tuple[Sequence[Cells], Position | None]:
        """The next rows, and the key of the last one: None where no more follow."""
        query = self.query(scope).add_columns(*self.key).order_by(*self.key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*self.key) > after)
        rows = await session.rows(query)
        last = tuple(rows[-1][-len(self.key) :]) if len(rows) == limit else None
        return [self.cells(row) for row in rows], last


@dataclass(frozen=True, slots=True)
class Table:
    """A type of report."""

    columns: tuple[str, ...]
    sources: tuple[Source, ...]


def _within(column: Any, scope: Scope) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return column >= scope.start, column < scope.end


def _articles(scope: Scope) -> Select[*Cells]:
    columns = (Article.id, Article.title, Article.author_id, Article.published_at, Article.views)
    return select(*columns).where(*_within(Article.published_at, scope))


def _own_articles(scope: Scope) -> Select[*Cells]:
    own = select(Article.id, Article.published_at, Article.title).where(Article.author_id == scope.owner_id)
    return own.where(*_within(Article.published_at, scope))


def _own_messages(scope: Scope) -> Select[*Cells]:
    columns = (Message.id, Message.created_at, Message.recipient_id, Message.content)
    return select(*columns).where(Message.sender_id == scope.owner_id, *_within(Message.created_at, scope))


def _products(scope: Scope) -> Select[*Cells]:
    columns = (Product.id, Product.name, Category.name, Product.price_cents, Product.updated_at)
    found = select(*columns).join(Category, Category.id == Product.category_id)
    return found.where(*_within(Product.updated_at, scope))


TABLES: dict[ReportType, Table] = {
    # Those that were published in the range, with all of their views.
    "article_views": Table(
        columns=("id", "title", "author_id", "published_at", "views"),
        sources=(Source((Article.published_at, Article.id), _articles, lambda row: tuple(row[:5])),),
    ),
    # What the owner has published and sent.
    "own_activity": Table(
        columns=("kind", "id", "at", "recipient_id", "text"),
        sources=(
            Source(
                (Article.published_at, Article.id),
                _own_articles,
                lambda row: ("article", row[0], row[1], None, row[2]),
            ),
            Source((Message.id,), _own_messages, lambda row: ("message", *row[:3], preview(row[3]))),
        ),
    ),
    # Those whose last change is in the range.
    "product_catalogue": Table(
        columns=("id", "name", "category", "price", "updated_at"),
        sources=(Source((Product.id,), _products, lambda row: (*row[:3], to_price(row[3]), row[4])),),
    ),
}


def columns_of(type: str) -> tuple[str, ...]:
    """The columns of a type of report, as the database has its name."""
    return {str(name): table.columns for name, table in TABLES.items()}[type]
