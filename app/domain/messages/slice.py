"""What the service takes from the messages."""

from app.domain.messages import pages
from app.domain.messages.models import Message
from app.domain.messages.routes import blueprint
from app.domain.messages.seed import send_demo_messages
from app.domain.messages.tasks import TASKS
from app.domain.slice import Slice

SLICE = Slice(
    blueprint=blueprint,
    pages=pages.blueprint,
    links=pages.LINKS,
    tables=(Message,),
    tasks=TASKS,
    seed=send_demo_messages,
)
