"""The task of messages: mail to a recipient who is not online."""

from app.domain.messages import store
from app.domain.messages.schemas import preview
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.mail import Mail
from app.resources import Resources

INBOX_PATH = "/inbox"
TEXT = """Hello,

{name} has sent you a message:

{preview}

Read it here: {link}
"""


@task(timeout_seconds=60)
async def notify_recipient(context: TaskContext, message_id: int) -> str:
    """Mail the beginning of a message to its recipient; returns "mailed", "online", "settled" or "no mail".

    The record of the task holds the message's id alone. "settled": the message is read, or the sender or the recipient
    has no account any more. A worker that dies after the mail was taken sends it a second time.
    """
    resources: Resources = context.resources
    if resources.mailer is None:
        return "no mail"
    async with resources.database.read(primary=True) as session:
        found = await store.get_notice(session, message_id)
    if found is None:
        return "settled"
    message, email, name = found
    if await resources.presence.is_online(message.recipient_id):
        return "online"
    text = TEXT.format(name=name, preview=preview(message.content), link=f"{resources.public_url}{INBOX_PATH}")
    await resources.mailer.send(Mail(email, "You have a new message", text))
    return "mailed"


TASKS = (notify_recipient,)
