"""The service of avatars: an upload is stored with its task, which resizes it."""

import re
import secrets

from anyio import to_thread

from app.domain.users import store
from app.domain.users.avatar_image import check_image
from app.domain.users.models import Avatar
from app.domain.users.tags import user_tag
from app.domain.users.tasks import Upload, resize_avatar
from app.errors import Forbidden, NotFound
from app.principal import Principal
from app.resources import Resources

VERSION_BYTES = 8
_VERSION = re.compile(f"[0-9a-f]{{{2 * VERSION_BYTES}}}", re.ASCII)


async def put_avatar(resources: Resources, principal: Principal, user_id: int, data: bytes) -> str:
    """Take an image; returns the id of the task that resizes it. The earlier image is shown until then.

    Raises what check_image() raises.
    """
    if principal.user_id != user_id:
        raise Forbidden("This account is not yours.")
    await to_thread.run_sync(check_image, data)
    version = secrets.token_hex(VERSION_BYTES)
    async with resources.database.write() as session:
        # The lock on the user puts parallel uploads in an order.
        if await store.get_user_for_update(session, user_id) is None:
            raise NotFound("There is no such user.")
        avatar = await store.get_avatar(session, user_id)
        if avatar is None:
            session.add(Avatar(user_id=user_id, version=version, upload=data, image=None))
        else:
            avatar.version, avatar.upload = version, data
        return resources.outbox.task(session, resize_avatar, Upload(user_id, version), owner=user_id)


async def delete_avatar(resources: Resources, principal: Principal, user_id: int) -> None:
    if not principal.may_write(user_id):
        raise Forbidden("This account is not yours.")
    async with resources.database.write() as session:
        user = await store.get_user_for_update(session, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        user.avatar_version = None
        await store.delete_avatar(session, user_id)
        resources.outbox.invalidate(session, user_tag(user_id))


async def get_image(resources: Resources, user_id: int, version: str) -> bytes:
    """NotFound for a version that is not shown any more, and for a text that is none."""
    if not _VERSION.fullmatch(version):
        raise NotFound("There is no such avatar.")
    async with resources.database.read(primary=True) as session:
        image = await store.get_image(session, user_id, version)
    if image is None:
        raise NotFound("There is no such avatar.")
    return image
