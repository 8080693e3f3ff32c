"""The request and response bodies of articles."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, RootModel, StringConstraints

from app.domain.articles.models import Article
from app.domain.articles.search import MOST_WORDS_OF_QUERY, words_of
from app.domain.fields import VISIBLE, WITHOUT_NUL, Body, Page
from app.domain.paging import LONGEST_CURSOR, Cursor


def _searchable(text: str) -> str:
    if not 0 < len(words_of(text)) <= MOST_WORDS_OF_QUERY:
        raise ValueError(f"must have 1 to {MOST_WORDS_OF_QUERY} words")
    return text


class ArticleQuery(Page):
    """`cursor` is a `next_cursor` that was answered; then `page` does not count."""

    cursor: Annotated[Cursor | None, Field(max_length=LONGEST_CURSOR)] = None


class Search(Page):
    """Words, all of which an article must have in its title or text. Case and diacritics do not count."""

    q: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_searchable)]


class Draft(Body):
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), VISIBLE]
    content: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000), WITHOUT_NUL]


@dataclass(frozen=True, slots=True)
class ArticleShown:
    """An article. `summary` and `keywords` follow soon after an edit; `views` may be some minutes old."""

    id: int
    title: str
    content: str
    summary: str | None
    keywords: list[str]
    views: int
    author_id: int | None
    published_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ArticleListed:
    """An article in a list: without its content."""

    id: int
    title: str
    summary: str | None
    keywords: list[str]
    views: int
    author_id: int | None
    published_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Versioned:
    """An article with the two versions that its ETag is made of."""

    article: ArticleShown
    version: int
    processed_version: int


@dataclass(frozen=True, slots=True)
class ArticlePage:
    """One page of all articles. `pages` is the number of pages; `next_cursor` goes on after the last article here."""

    articles: list[ArticleListed]
    total: int
    pages: int
    current_page: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ArticlesAfter:
    """The articles after a cursor. `next_cursor` None: these were the last."""

    articles: list[ArticleListed]
    next_cursor: str | None


class ArticleListing(RootModel[ArticlePage | ArticlesAfter]):
    """A page, or with `cursor` the articles after it."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of the articles that a search has found, the last thousand at most. `pages` is the number of pages."""

    results: list[ArticleListed]
    total: int
    pages: int
    current_page: int


@dataclass(frozen=True, slots=True)
class ArticleList:
    """Some articles."""

    articles: list[ArticleListed]


def shown(article: Article) -> ArticleShown:
    return ArticleShown(
        id=article.id,
        title=article.title,
        content=article.content,
        summary=article.summary,
        keywords=article.keywords,
        views=article.views,
        author_id=article.author_id,
        published_at=article.published_at,
        updated_at=article.updated_at,
    )


def listed(article: Article) -> ArticleListed:
    """Reads all but the content, which the store leaves out of lists."""
    return ArticleListed(
        id=article.id,
        title=article.title,
        summary=article.summary,
        keywords=article.keywords,
        views=article.views,
        author_id=article.author_id,
        published_at=article.published_at,
        updated_at=article.updated_at,
    )


def versioned(article: Article) -> Versioned:
    return Versioned(shown(article), article.version, article.processed_version)
