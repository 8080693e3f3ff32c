"""API keys: service credentials of a user, shown once and stored as hashes."""

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from app.db.base import now
from app.domain.users import store
from app.domain.users.models import ApiKey
from app.domain.users.service import user_roles
from app.domain.users.tags import key_tag
from app.errors import Conflict, NotFound, Unavailable
from app.kit.cache.memoize import memoize
from app.kit.keys import digest
from app.principal import Principal
from app.resources import Resources

# Secret scanners, and people, recognize the key by it.
PREFIX = "qk_"
SECRET_BYTES = 32
MOST_KEYS = 20
RECORDED_EVERY = timedelta(minutes=1)
_FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)


async def create_api_key(resources: Resources, principal: Principal, *, name: str) -> tuple[ApiKey, str]:
    """The row, and the key itself, which is not stored. Conflict: the user has MOST_KEYS already."""
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = ApiKey(user_id=principal.user_id, name=name, key_hash=digest(key), created_at=now())
    async with resources.database.write() as session:
        # The lock: requests at the same time count one after the other.
        if await store.get_user_for_update(session, principal.user_id) is None:
            raise NotFound("There is no such user.")
        if await store.count_api_keys(session, principal.user_id) >= MOST_KEYS:
            raise Conflict(f"You have {MOST_KEYS} API keys, the most there may be. Revoke one first.")
        await store.create_api_key(session, row)
    return row, key


async def list_api_keys(resources: Resources, principal: Principal) -> Sequence[ApiKey]:
    async with resources.database.read(primary=True) as session:
        return await store.list_api_keys(session, principal.user_id)


async def delete_api_key(resources: Resources, principal: Principal, key_id: int) -> None:
    async with resources.database.write() as session:
        key_hash = await store.delete_api_key(session, key_id, user_id=principal.user_id)
        if key_hash is None:
            raise NotFound("You have no such API key.")
        resources.outbox.invalidate(session, key_tag(key_hash))
        resources.outbox.end_credential(session, principal.user_id, key_hash)


async def api_key_owner(resources: Resources, key: str) -> tuple[int, frozenset[str]] | None:
    """The id and the roles of the key's user; None for any text that is no current key."""
    if not _FORM.fullmatch(key):
        return None
    try:
        user_id = await _get_owner(resources, digest(key))
    except NotFound:
        return None
    roles = await user_roles(resources, user_id)
    return None if roles is None else (user_id, roles)


@memoize(ttl_seconds=RECORDED_EVERY.total_seconds(), tags=lambda key_hash: key_tag(key_hash), type=int)
async def _get_owner(resources: Resources, key_hash: str) -> int:
    """NotFound is not cached, so invented keys store nothing."""
    async with resources.database.read(primary=True) as session:
        key = await store.get_api_key(session, key_hash)
    if key is None:
        raise NotFound
    await _record_use(resources, key)
    return key.user_id


async def _record_use(resources: Resources, key: ApiKey) -> None:
    """At most once a minute for each key, also while nothing is cached."""
    moment = now()
    if key.last_used_at is not None and moment - key.last_used_at < RECORDED_EVERY:
        return
    # Fails open: a database that only reads must not end the keys.
    with suppress(Unavailable):
        async with resources.database.write() as session:
            await store.update_last_used(session, key.id, moment)
