"""Demo articles, for a first look."""

from collections.abc import Sequence

from app.domain.articles.service import create_article
from app.domain.slice import DemoUser
from app.principal import Principal
from app.resources import Resources

DEMO_ARTICLES = (
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


async def publish_demo_articles(resources: Resources, users: Sequence[DemoUser]) -> None:
    """The articles of the demo editors."""
    for user in users:
        if "editor" in user.roles:
            author = Principal(user.id, frozenset(user.roles), "session")
            for title, content in reversed(DEMO_ARTICLES):
                await create_article(resources, author, title=title, content=content)
