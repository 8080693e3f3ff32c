"""The tasks of accounts."""

from anyio import to_process
from msgspec import Struct

from app.domain.users import store
from app.domain.users.avatar_image import resize_image
from app.domain.users.reset_token import RESET_SECONDS, fingerprint_of, make_reset_token
from app.domain.users.tags import user_tag
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.mail import Mail
from app.resources import Resources

# The page that takes the token of the mail.
RESET_PATH = "/password-reset/confirm"
TEXT = """Hello,

a new password was requested for your account. Set it on this page within {minutes} minutes:

{link}

If the request was not yours, ignore this mail: your password stays as it is.
"""


@task(timeout_seconds=60, keep_seconds=60)
async def send_password_reset(context: TaskContext, email: str) -> None:
    """Mail a link for a new password. Does nothing for an address without an account.

    The token is made here: it is in no record of the task. A repeat sends a second mail, whose token is as good.
    """
    resources: Resources = context.resources
    async with resources.database.read(primary=True) as session:
        user_id = await store.get_user_id(session, email)
        user = None if user_id is None else await store.get_user(session, user_id)
    if user is None or resources.mailer is None:
        return
    fingerprint = fingerprint_of(user.email, user.password_hash)
    token = make_reset_token(user.id, fingerprint=fingerprint, secret_key=resources.secret_key)
    link = f"{resources.public_url}{RESET_PATH}?token={token}"
    text = TEXT.format(minutes=RESET_SECONDS // 60, link=link)
    await resources.mailer.send(Mail(user.email, "Your new password", text))


class Upload(Struct, frozen=True):
    """The image that a user has uploaded, by its version."""

    user_id: int
    version: str


@task(timeout_seconds=60)
async def resize_avatar(context: TaskContext, upload: Upload) -> str:
    """Make the avatar of an upload, in a child process; returns "resized", "damaged" or "outdated".

    A damaged image is dropped, and the earlier avatar stays. An upload that another has replaced is left to its task.
    """
    resources: Resources = context.resources
    async with resources.database.read(primary=True) as reading:
        found = await store.get_avatar(reading, upload.user_id)
    if found is None or found.version != upload.version or found.upload is None:
        return "outdated"
    image = await to_process.run_sync(resize_image, found.upload, cancellable=True)
    async with resources.database.write() as session:
        user = await store.get_user_for_update(session, upload.user_id)
        avatar = await store.get_avatar(session, upload.user_id)
        if user is None or avatar is None or avatar.version != upload.version:
            return "outdated"
        avatar.upload = None
        if image is None:
            return "damaged"
        avatar.image, user.avatar_version = image, upload.version
        resources.outbox.invalidate(session, user_tag(user.id))
    return "resized"


TASKS = (send_password_reset, resize_avatar)
