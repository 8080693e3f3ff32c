"""The lookups of authentication; the factory gives them to auth.register()."""

from app.domain.users import api_keys, service
from app.web.context import resources


class UserLookups:
    """app.web.identity.auth.Lookups, answered from the running application's resources."""

    async def user_roles(self, user_id: int) -> frozenset[str] | None:
        return await service.user_roles(resources(), user_id)

    async def api_key_owner(self, key: str) -> tuple[int, frozenset[str]] | None:
        return await api_keys.api_key_owner(resources(), key)
