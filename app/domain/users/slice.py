"""What the service takes from the accounts."""

from app.domain.slice import Slice
from app.domain.users.models import ApiKey, Avatar, User
from app.domain.users.routes import blueprint
from app.domain.users.tasks import TASKS

SLICE = Slice(blueprint=blueprint, tables=(User, Avatar, ApiKey), tasks=TASKS)
