"""Demo messages, for a first look."""

from collections.abc import Sequence

from app.db.base import now
from app.domain.messages import store
from app.domain.messages.models import Message
from app.domain.slice import DemoUser
from app.resources import Resources

ADMIN, EDITOR, READER = "admin@example.com", "editor@example.com", "reader@example.com"
# From, to, content.
DEMO_MESSAGES = (
    (ADMIN, EDITOR, "Welcome to the desk! Your account may publish articles and keep the catalogue."),
    (EDITOR, ADMIN, "Thank you. The piece on the harbour bridge is in, the photographs follow tomorrow."),
    (READER, EDITOR, "I liked your article on the night trains. Do the sleepers take bicycles?"),
    (EDITOR, READER, "They do, four to a car, but a place must be booked with the bed."),
    (READER, EDITOR, "Good to know. I have booked the first Friday in spring."),
    (ADMIN, READER, "You asked for a report of your own activity: POST /api/v1/reports makes it."),
    (READER, ADMIN, "It came within seconds, as a table. Thank you!"),
    (EDITOR, ADMIN, "Two prices in the catalogue were old. They are right now, and the shop shows them already."),
    (ADMIN, EDITOR, "I saw the event pass by. Could you look at the kitchen category as well?"),
    (READER, EDITOR, "A small correction: the repair café opens at ten on Saturdays, not at nine."),
)


async def send_demo_messages(resources: Resources, users: Sequence[DemoUser]) -> None:
    """Between the demo accounts that are new. There is no event and no mail, because no user waits for one."""
    ids = {user.email: user.id for user in users}
    async with resources.database.write() as session:
        for sender, recipient, content in DEMO_MESSAGES:
            if sender in ids and recipient in ids:
                message = Message(
                    sender_id=ids[sender],
                    recipient_id=ids[recipient],
                    content=content,
                    created_at=now(),
                    read_at=None,
                )
                await store.create_message(session, message)
