"""Sessions in Redis: one hash a session, for the browser's cookie and the header token alike."""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.keys import Keys, digest
from app.kit.scripts import Argument
from app.kit.sessions.codec import (
    MAX_SESSION_BYTES,
    SessionRejected,
    decode_fields,
    decode_info,
    decode_record,
    encode_fields,
    encode_record,
    field_name,
)
from app.kit.sessions.record import Channel, SessionInfo, SessionRecord, bucket_for, bucket_of, ended_record, new_id
from app.kit.sessions.revocation import Revocation
from app.kit.sessions.scripts import SessionScripts, wrong_type_rejected
from app.kit.sessions.values import SessionTooLarge
from app.kit.telemetry import NoTelemetry, Telemetry

# Longer than any login takes from reading the epoch to create().
EPOCH_MS = 3_600_000
ANY_EPOCH = "*"
# How long a script knows the repeat of a call whose reply was lost.
CALL_MS = 60_000
_PUBLIC_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


class SessionsEnded(Exception):
    """All sessions of the user were ended after this login had begun."""


class SessionStore:
    """Each method is one round trip. Fails closed: while Redis is down each but touch() raises one of UNAVAILABLE."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        idle_seconds: float,
        absolute_seconds: float,
        max_per_user: int = 20,
        touch_after_seconds: float = 60.0,
        telemetry: Telemetry | None = None,
    ) -> None:
        """A session ends `idle_seconds` after its last activity, and `absolute_seconds` after it was created."""
        self.absolute_seconds = absolute_seconds
        self._redis = redis
        self._keys = keys
        self._idle_ms = round(idle_seconds * 1000)
        self._absolute_ms = round(absolute_seconds * 1000)
        self._max_per_user = max_per_user
        self._touch_after_seconds = touch_after_seconds
        self._telemetry = telemetry or NoTelemetry()
        self._scripts = SessionScripts(redis, self._telemetry)

    async def epoch(self, user_id: int) -> str:
        """The epoch of the user's sessions, which end_all() changes and create() compares; "" where there is none.

        A login reads it before it reads the password's hash from the database: then a password change that ends all
        sessions also refuses the logins that checked the old password.
        """
        with self._scripts.rejections_counted(), wrong_type_rejected():
            key = self._keys.session_epoch(bucket_for(user_id), user_id)
            epoch = await self._scripts.counted("epoch", self._redis.get(key))
            return epoch.decode(errors="replace") if epoch else ""
        # create() then sets a new epoch.
        return ""

    async def create(
        self,
        data: Mapping[str, Any],
        *,
        channel: Channel,
        user_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        epoch: str | None = None,
    ) -> SessionRecord:
        """A new session. Beyond `max_per_user` the oldest of the user's ends.

        Unstorable: `data` cannot be kept. SessionsEnded: the user's epoch is not `epoch` any more.
        """
        bucket = bucket_for(user_id)
        session_id = new_id(bucket)
        fields = encode_record(data, metadata or {}, channel=channel, user_id=user_id)
        keys = [self._keys.session(bucket, digest(session_id))]
        if user_id is not None:
            keys += [self._keys.session_index(bucket, user_id), self._keys.session_epoch(bucket, user_id)]
        args: list[Argument] = [self._idle_ms, self._absolute_ms, digest(session_id), self._keys.session(bucket, "")]
        args += [self._max_per_user, ANY_EPOCH if epoch is None else epoch, self._keys.revocations(), EPOCH_MS]
        args += [part for pair in fields.items() for part in pair]
        times = await self._scripts.run("create", keys=keys, args=args)
        if times is None:
            raise SessionsEnded
        made = {b"created": times[0], b"active": times[0], b"expires": times[1]}
        return decode_record(session_id, fields | made)

    async def get(self, session_id: str, *, channel: Channel) -> SessionRecord | None:
        """The session of an id that came over `channel`; None where there is none, or it cannot be read."""
        with self._scripts.rejections_counted():
            return await self._read(session_id, channel)
        return None

    async def save(self, record: SessionRecord, *, changed: Mapping[str, Any], removed: Collection[str]) -> bool:
        """Merge fields into the session and slide its expiry. False: it has ended, and nothing was written.

        Fields that are not named keep what other requests wrote. Unstorable: `changed` cannot be kept; SessionTooLarge
        also where it does not fit beside what other requests wrote.
        """
        encoded = encode_fields(changed)
        pairs = [part for name, value in encoded.items() for part in (field_name(name), value)]
        saved = await self._slide(record, [len(encoded), *pairs, *(field_name(name) for name in removed)])
        if saved:
            kept = {name: value for name, value in record.stored.items() if name not in removed}
            record.stored = kept | encoded
        return saved

    def needs_touch(self, record: SessionRecord) -> bool:
        """Whether the last activity is old enough to be worth a touch()."""
        return record.idle_seconds() >= self._touch_after_seconds

    async def touch(self, record: SessionRecord) -> None:
        """Slide the expiry, if needs_touch()."""
        if not self.needs_touch(record):
            return
        try:
            await self._slide(record, [0])
        except RedisError as error:
            # Fails open: the session goes on, and a later request slides it.
            record_failure(error, block="sessions", telemetry=self._telemetry)

    async def rotate(self, record: SessionRecord) -> bool:
        """Give the session a new id, in Redis and in `record`. False: it has ended."""
        new = new_id(record.bucket)
        keys = [self._key(record), self._keys.session(record.bucket, digest(new)), self._superseded(record)]
        keys += self._index(record)
        args: list[Argument] = [record.public_id, digest(new), self._keys.revocations(), CALL_MS]
        if not await self._scripts.run("rotate", keys=keys, args=args):
            return False
        record.id = new
        return True

    async def delete(self, session_id: str) -> bool:
        """End a session. False: there was none."""
        bucket = bucket_of(session_id)
        return bucket is not None and await self._delete(bucket, digest(session_id), user="")

    async def take(self, record: SessionRecord) -> bool:
        """End a session whose data another one has taken over from `record`.

        False: it holds other data, which `record` now has too, and goes on. Where it had ended there is nothing more to
        take over, unless another take() ended it, a minute ago at most.
        """
        keys = [self._key(record), self._superseded(record)]
        args: list[Argument] = [record.public_id, self._keys.session_index(record.bucket, "")]
        args += [self._keys.revocations(), CALL_MS, "" if record.user_id is None else record.user_id]
        args += [part for name, value in record.stored.items() for part in (field_name(name), value)]
        found = await self._scripts.run("take", keys=keys, args=args)
        if found is None:
            return True
        with self._scripts.rejections_counted():
            record.data, record.stored = decode_fields(dict(zip(found[::2], found[1::2], strict=True)))
            return False
        # What cannot be read is not taken over.
        await self.delete(record.id)
        return True

    async def is_superseded(self, session_id: str) -> bool:
        """Whether the session has another id, or went into another one by take(), since a minute ago at most."""
        key = self._superseded(ended_record(session_id))
        return bool(await self._scripts.counted("is_superseded", self._redis.exists(key)))

    async def list(self, user_id: int) -> Sequence[SessionInfo]:
        """A user's sessions, the most recently active first."""
        bucket = bucket_for(user_id)
        keys, args = [self._keys.session_index(bucket, user_id)], [self._keys.session(bucket, "")]
        infos = []
        for row in await self._scripts.run("list", keys=keys, args=args):
            with self._scripts.rejections_counted():
                infos.append(decode_info(row))
        return sorted(infos, key=lambda info: info.last_activity, reverse=True)

    async def end(self, user_id: int, public_id: str) -> bool:
        """End the session that list() shows under `public_id`. False: the user has no such session."""
        if not _PUBLIC_ID.fullmatch(public_id):
            return False
        return await self._delete(bucket_for(user_id), public_id, user=str(user_id))

    async def end_all(self, user_id: int, *, keep: str | None = None, call: str | None = None) -> int:
        """End the user's sessions except the one with the public id `keep`, and refuse the logins that have begun.

        Returns how many were ended. Within an hour a repeat with the same `call` ends nothing more.
        """
        bucket = bucket_for(user_id)
        keys = [self._keys.session_index(bucket, user_id), self._keys.session_epoch(bucket, user_id)]
        keys.append(self._keys.session_call(bucket, call) if call else self._new_call_key(bucket))
        args: list[Argument] = [self._keys.session(bucket, ""), secrets.token_hex(8), EPOCH_MS, keep or ""]
        args += [self._keys.revocations(), user_id, EPOCH_MS if call else CALL_MS]
        ended: int = await self._scripts.run("end_all", keys=keys, args=args)
        return ended

    async def revoke(self, revocation: Revocation) -> None:
        """Tell every process of what has ended and is no session, such as an API key. Repeats do no harm."""
        await self._redis.publish(self._keys.revocations(), revocation.encode())

    async def _read(self, session_id: str, channel: Channel) -> SessionRecord:
        bucket = bucket_of(session_id)
        if bucket is None:
            raise SessionRejected("malformed")
        with wrong_type_rejected():
            fields = await self._scripts.counted(
                "get", self._redis.hgetall(self._keys.session(bucket, digest(session_id)))
            )
        if not fields:
            raise SessionRejected("unknown")
        record = decode_record(session_id, fields)
        if record.channel != channel:
            raise SessionRejected("other_channel")
        return record

    async def _slide(self, record: SessionRecord, changes: Sequence[Argument]) -> bool:
        keys = [self._key(record), *self._index(record)]
        args = [self._idle_ms, record.public_id, MAX_SESSION_BYTES, self._keys.revocations(), *changes]
        times = await self._scripts.run("save", keys=keys, args=args)
        if times is None:
            return False
        if not times:
            raise SessionTooLarge(f"the session would have more than {MAX_SESSION_BYTES} bytes")
        record.last_activity, record.expires_at = int(times[0]) / 1000, int(times[1]) / 1000
        return True

    async def _delete(self, bucket: str, public_id: str, *, user: str) -> bool:
        keys = [self._keys.session(bucket, public_id), self._new_call_key(bucket)]
        args = [public_id, self._keys.session_index(bucket, ""), user, self._keys.revocations()]
        return bool(await self._scripts.run("delete", keys=keys, args=args))

    def _new_call_key(self, bucket: str) -> str:
        """The key by which a script recognises the repeat of a call whose reply was lost."""
        return self._keys.session_call(bucket, secrets.token_hex(8))

    def _key(self, record: SessionRecord) -> str:
        return self._keys.session(record.bucket, record.public_id)

    def _superseded(self, record: SessionRecord) -> str:
        return self._keys.session_superseded(record.bucket, record.public_id)

    def _index(self, record: SessionRecord) -> Sequence[str]:
        return [] if record.user_id is None else [self._keys.session_index(record.bucket, record.user_id)]
