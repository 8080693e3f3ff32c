"""Counts views of articles in Redis; a task moves the counts into the database."""

from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.metrics import Metric, counter
from app.resources import Resources

METRICS: tuple[Metric, ...] = (counter("article_views_lost", "Views that Redis could not count."),)


def views_key(resources: Resources) -> str:
    """A hash of views by article, without a TTL: they wait until the database has them."""
    return resources.keys.own("article-views")


async def count_view(resources: Resources, article_id: int) -> None:
    try:
        await resources.redis.hincrby(views_key(resources), str(article_id), 1)
    except RedisError as error:
        # Fails open: the article is shown, the view is not counted.
        record_failure(error, block="articles", telemetry=resources.telemetry)
        resources.telemetry.count("article_views_lost")


async def forget_views(resources: Resources, article_id: int) -> None:
    """Remove the count of an article that does not exist: made-up numbers must not accumulate in Redis."""
    try:
        await resources.redis.hdel(views_key(resources), str(article_id))
    except RedisError as error:
        # Fails open: the next flush removes it.
        record_failure(error, block="articles", telemetry=resources.telemetry)
        resources.telemetry.count("article_views_lost")
