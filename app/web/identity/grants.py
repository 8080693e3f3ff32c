"""Grants of event streams: what the credential of a request allows, for as long as it does."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from quart import Quart, current_app
from redis.exceptions import RedisError

from app.errors import Unavailable
from app.kit.client.errors import record_failure
from app.kit.events.grant import Grant
from app.kit.events.hub import Hub
from app.kit.keys import digest
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.revocation import Revocation
from app.principal import Principal
from app.web.client_address import client_network
from app.web.context import connection, exchange, resources
from app.web.identity import auth

MayHave = Callable[[Principal | None], bool]


def current_grant(may_have: MayHave) -> Grant:
    """The grant of the current request. When it is checked again, `may_have` is asked of what its principal is then.

    Nothing revokes a visitor's: it is for what everyone may have.
    """
    principal = auth.current_principal_or_none()
    if principal is None:
        return Grant(network=client_network(), since=exchange().began)
    app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
    if principal.credential == "api_key":
        key = connection().headers["API-Key"]
        held = HeldCredential(app, principal, may_have, api_key=key)
        return Grant(principal.user_id, digest(key), network=client_network(), since=exchange().began, check=held.check)
    session = auth.current_session()
    held = HeldCredential(app, principal, may_have, session=session)
    return Grant(
        principal.user_id,
        session.public_id,
        network=client_network(),
        since=exchange().began,
        seconds=session.expires_at - time.time(),
        check=held.check,
    )


@dataclass(frozen=True, slots=True)
class HeldCredential:
    """The credential of a request, kept in memory to be checked after the request has ended."""

    app: Quart = field(repr=False)
    principal: Principal
    may_have: MayHave = field(repr=False)
    session: SessionRecord | None = None
    api_key: str = field(default="", repr=False)

    async def check(self) -> bool | None:
        """Whether it still allows what was granted; None: that cannot be found out now."""
        async with self.app.app_context():
            try:
                principal = await self._principal()
            except Unavailable:
                return None
            except RedisError as error:
                record_failure(error, block="sessions", telemetry=resources().telemetry)
                return None
        return principal is not None and self.may_have(principal)

    async def _principal(self) -> Principal | None:
        user_id, lookups = self.principal.user_id, auth.current_lookups()
        if self.session is None:
            owner = await lookups.api_key_owner(self.api_key)
            return Principal(*owner, "api_key") if owner else None
        record = await resources().sessions.get(self.session.id, channel=self.session.channel)
        if record is None or record.user_id != user_id:
            return None
        roles = await lookups.user_roles(user_id)
        return None if roles is None else Principal(user_id, roles, self.principal.credential)


class StreamRevocations:
    """app.kit.sessions.revocation.RevocationListener: it ends streams."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def revoked(self, revocation: Revocation) -> None:
        self._hub.revoke(revocation.user_id, revocation.credential)

    def may_have_missed(self) -> None:
        self._hub.check_grants()
