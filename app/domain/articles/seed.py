"""Demo articles, for a first look."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from app.db.base import now
from app.domain.articles import store
from app.domain.articles.models import Article
from app.domain.articles.search import words_of
from app.domain.articles.tags import ARTICLES_TAG
from app.domain.articles.tasks import Edit, process_article
from app.domain.slice import DemoUser
from app.domain.users.tags import user_tag
from app.resources import Resources

DEMO_ARTICLES = Path(__file__).with_name("demo_articles.md")
# Between two of them; and the views of the most read one.
INTERVAL = timedelta(hours=17)
MOST_VIEWS = 900


def demo_articles() -> Iterator[tuple[str, str]]:
    """Title and content, the latest first."""
    for section in DEMO_ARTICLES.read_text(encoding="utf-8").split("## ")[1:]:
        title, _, content = section.partition("\n")
        yield title, " ".join(content.split())


async def publish_demo_articles(resources: Resources, users: Sequence[DemoUser]) -> None:
    """The articles of the demo editors, published over the weeks before now. Summaries follow in the background.

    No event is published for them, because they are not new.
    """
    editors = [user.id for user in users if "editor" in user.roles]
    moment = now()
    async with resources.database.write() as session:
        for author_id in editors:
            resources.outbox.invalidate(session, ARTICLES_TAG, user_tag(author_id))
            for number, (title, content) in reversed(list(enumerate(demo_articles()))):
                article = Article(
                    author_id=author_id,
                    title=title,
                    content=content,
                    keywords=[],
                    # Spread without chance, so that each first look is the same.
                    views=number * 389 % MOST_VIEWS,
                    version=1,
                    processed_version=0,
                    published_at=moment - number * INTERVAL,
                    updated_at=moment - number * INTERVAL,
                )
                await store.create_article(session, article)
                await store.update_words(session, article.id, words_of(title, content))
                resources.outbox.task(session, process_article, Edit(article.id, article.version))
