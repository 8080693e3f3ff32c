"""The tags of cached articles."""

from app.domain.articles.models import Article
from app.domain.users.tags import ACCOUNTS_TAG, user_tag

# On every list of articles.
ARTICLES_TAG = "articles"
LIST_TAGS = (ARTICLES_TAG, ACCOUNTS_TAG)


def article_tags(article_id: int) -> tuple[str, str]:
    """On one article. Any article may name an account that is deleted: they are all invalidated then."""
    return (_article_tag(article_id), ACCOUNTS_TAG)


def tags_of(article: Article) -> list[str]:
    """The tags that a change of the article invalidates."""
    author = [] if article.author_id is None else [user_tag(article.author_id)]
    return [ARTICLES_TAG, _article_tag(article.id), *author]


def _article_tag(article_id: int) -> str:
    return f"article:{article_id}"
