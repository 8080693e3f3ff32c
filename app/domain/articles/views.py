"""Counts of how often articles are read: in Redis at each read, moved into the database once a minute."""

from contextlib import suppress

from redis.exceptions import RedisError, ResponseError

from app.domain.articles import store
from app.kit.client.errors import record_failure
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources

BATCH = 500


def views_key(resources: Resources) -> str:
    """A hash of views by article, without a TTL: they wait until the database has them."""
    return resources.keys.own("article-views")


async def count_view(resources: Resources, article_id: int) -> None:
    try:
        await resources.redis.hincrby(views_key(resources), str(article_id), 1)
    except RedisError as error:
        record_failure(error, block="article_views", telemetry=resources.telemetry)
        # Fails open: the article is shown, the view is not counted.
        resources.telemetry.count("article_views_lost")


async def forget_views(resources: Resources, article_id: int) -> None:
    """For an id without an article: invented ids must not accumulate in Redis."""
    try:
        await resources.redis.hdel(views_key(resources), str(article_id))
    except RedisError as error:
        record_failure(error, block="article_views", telemetry=resources.telemetry)
        # Fails open: the next flush removes it.
        resources.telemetry.count("article_views_lost")


@task(timeout_seconds=50, max_attempts=1)
async def flush_views(context: TaskContext) -> int:
    """Move the counts into the database; returns the number of articles. What fails is left for the next run.

    A worker that dies between a commit and its HDEL counts one batch twice.
    """
    resources: Resources = context.resources
    redis, counting = resources.redis, views_key(resources)
    taken = counting + ":taken"
    with suppress(ResponseError):  # no article has been read
        # What an earlier run has left is moved first.
        await redis.renamenx(counting, taken)
    counted = [(int(article_id), int(views)) for article_id, views in (await redis.hgetall(taken)).items()]
    for start in range(0, len(counted), BATCH):
        batch = dict(counted[start : start + BATCH])
        async with resources.database.write() as session:
            await store.update_views(session, batch)
        await redis.hdel(taken, *map(str, batch))
    return len(counted)
