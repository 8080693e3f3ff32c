"""Sends a message of the outbox to the block that it is for."""

from collections.abc import Mapping

from app.kit.cache.cache import Cache
from app.kit.events.publisher import Publisher
from app.kit.sessions.revocation import Revocation
from app.kit.sessions.store import SessionStore
from app.kit.tasks.queue import Queue
from app.outbox_message import CredentialEnd, Invalidation, Publication, SessionsEnd, Submission, decode_message


class Delivery:
    """`queues`: each that a task may name, by its name."""

    def __init__(self, publisher: Publisher, queues: Mapping[str, Queue], cache: Cache, sessions: SessionStore) -> None:
        self._publisher = publisher
        self.queues = queues
        self._cache = cache
        self._sessions = sessions

    async def send(self, wire: str) -> None:
        """`wire`: the message as its row has it. A repeat is a no-op. Raises RedisError."""
        match decode_message(wire):
            case Publication(channel, payload, event_id):
                await self._publisher.publish_encoded(channel, bytes(payload), event_id=event_id)
            case Submission(call, queue):
                await self.queues[queue].submit([call])
            case Invalidation(tags):
                await self._cache.invalidate_tags(*tags)
            case SessionsEnd(user_id, keep, call):
                await self._sessions.end_all(user_id, keep=keep, call=call)
            case CredentialEnd(user_id, credential):
                await self._sessions.revoke(Revocation(user_id, credential))
