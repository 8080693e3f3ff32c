"""The tasks of accounts."""

from app.domain.users import store
from app.domain.users.reset_token import RESET_SECONDS, fingerprint_of, make_reset_token
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


TASKS = (send_password_reset,)
