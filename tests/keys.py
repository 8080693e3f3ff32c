"""Which keys of the application have no lifetime."""

from app.resources import Resources


async def lasting_keys(resources: Resources) -> set[str]:
    """The keys without a TTL, but for those of the blocks that must have none.

    Accepted tasks are kept until they have ended. The clock and the epoch of the events tell a client that its history
    is gone: they must outlive every history.
    """
    keys, redis = resources.keys, resources.redis
    found = [key.decode() async for key in redis.scan_iter(match=f"*{keys.namespace}:*")]
    # Other tests have keys on the same server.
    own = [key for key in found if key.lstrip("{").startswith(f"{keys.namespace}:")]
    lasting = {key for key in own if await redis.pttl(key) == -1}
    tasks = {key for key in lasting if key.startswith(keys.task_prefix(resources.queue.name))}
    return lasting - tasks - {keys.event_clock(), keys.event_epoch()}
