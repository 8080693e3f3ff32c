"""Demo data: three accounts and some articles, for a first look. What is there already stays as it is."""

import secrets
from dataclasses import dataclass, field

from app.domain.articles.service import create_article
from app.domain.users.service import register_user
from app.errors import Conflict
from app.principal import Principal
from app.resources import Resources

ACCOUNTS = (
    ("admin@example.com", "Ada Admin", ("admin",)),
    ("editor@example.com", "Edgar Editor", ("editor",)),
    ("reader@example.com", "Rita Reader", ()),
)
AUTHOR = "editor@example.com"
ARTICLES = (
    (
        "Harbour bridge reopens after two years",
        "The old harbour bridge reopened to traffic on Monday after two years of repairs. Engineers replaced forty "
        "steel girders and the whole road deck, and the city says that the bridge is safe for another sixty years. "
        "The work cost a third more than was planned, because corrosion went deeper than the first survey had shown. "
        "Ferry crossings, which carried commuters during the repairs, continue until the end of the month. Cyclists "
        "get a lane of their own for the first time.",
    ),
    (
        "Night trains return to the coast line",
        "Sleeper trains will run along the coast line again from spring, the railway company announced. The last "
        "night train left twelve years ago, when cheap flights had emptied its cars. Bookings for the new service "
        "sold out within a day for the first month. The company ordered twenty sleeping cars, and hopes that night "
        "trains will replace a tenth of the short flights between the two cities. Environmental groups welcomed the "
        "plan, though some called the fares too high for families.",
    ),
    (
        "Small library wins prize for its repair café",
        "A village library has won the national prize for public spaces. The jury praised its repair café, where "
        "volunteers mend radios, bicycles and clothes every Saturday. The library lends tools as well as books, and "
        "more people visit it now than live in the village. The prize money will pay for a second sewing machine and "
        "longer opening hours. Other libraries have asked how the repair café is run.",
    ),
)


@dataclass(frozen=True, slots=True)
class DemoUser:
    """An account that was made just now. The password is known nowhere else."""

    email: str
    password: str = field(repr=False)
    roles: tuple[str, ...]


async def seed(resources: Resources) -> list[DemoUser]:
    """Make what is missing; returns the accounts that were. The articles come with their author."""
    made = []
    for email, name, roles in ACCOUNTS:
        password = secrets.token_urlsafe(12)
        try:
            user = await register_user(resources, email=email, name=name, password=password, roles=roles)
        except Conflict:
            continue
        made.append(DemoUser(email, password, roles))
        if email == AUTHOR:
            await _publish(resources, Principal(user.id, frozenset(roles), "session"))
    return made


async def _publish(resources: Resources, author: Principal) -> None:
    for title, content in reversed(ARTICLES):
        await create_article(resources, author, title=title, content=content)
