"""A login's new session takes over what the browser's session holds, while other requests still save in that."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from redis.exceptions import RedisError

from app.errors import Conflict
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionsEnded, SessionStore

# Each round but the last is due to another request of the same browser, which saved in between.
MOST_ROUNDS = 50


async def take_over(store: SessionStore, old: SessionRecord, new: SessionRecord, *, own: Collection[str]) -> None:
    """End `old`, once `new` holds what other requests have saved in it since it was read (optimistic concurrency).

    `new` was made with the data of `old`. Of the fields named in `own` those of `new` count. On an error `new` ends,
    and `old` goes on. SessionTooLarge: what is added does not fit into `new`. SessionsEnded: `new` has ended meanwhile.
    Conflict: other requests never stopped saving.
    """
    # The caller's record keeps what the caller has read: on an error its own changes are still found.
    old = replace(old)
    try:
        for _ in range(MOST_ROUNDS):
            before = old.stored
            if await store.take(old):
                return
            names = {name for name, value in old.stored.items() if before.get(name) != value and name not in own}
            removed = before.keys() - old.stored.keys() - set(own)
            changed = {name: old.data[name] for name in names}
            new.data = {name: value for name, value in new.data.items() if name not in removed} | changed
            if (changed or removed) and not await store.save(new, changed=changed, removed=removed):
                raise SessionsEnded
        raise Conflict("The session was changed by other requests all the time. Sign in again.")
    except BaseException as error:
        if not isinstance(error, RedisError):
            with suppress(RedisError):
                await store.delete(new.id)
        raise
