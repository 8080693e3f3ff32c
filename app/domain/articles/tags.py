"""The cache tags of articles."""

from app.domain.articles.models import Article
from app.domain.users.service import AUTHORS_TAG, user_tag

# On every list of articles.
ARTICLES_TAG = "articles"
LIST_TAGS = (ARTICLES_TAG, AUTHORS_TAG)


def article_tags(article_id: int) -> tuple[str, str]:
    """On one article. When an author's account is deleted, all articles are read anew: any may name it."""
    return (_article_tag(article_id), AUTHORS_TAG)


def tags_of(article: Article) -> list[str]:
    """What a change of the article makes invalid."""
    author = [] if article.author_id is None else [user_tag(article.author_id)]
    return [ARTICLES_TAG, _article_tag(article.id), *author]


def _article_tag(article_id: int) -> str:
    return f"article:{article_id}"
