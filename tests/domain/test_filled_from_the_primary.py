"""What a cache keeps was read from the primary: a replica that lags would fill it with what was just invalidated."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, func, select

from app.domain.seed import seed
from app.domain.users.models import User
from app.kit.keys import Keys
from app.resources import Resources
from app.web.context import EXTENSION
from app.web.route_policy import RoutePolicy, compile_routes
from tests.application import create_test_app

PRIMARY, REPLICA = "primary.db", "replica.db"


@contextmanager
def databases_asked() -> Iterator[Counter[str]]:
    """How many statements each file gets."""
    found: Counter[str] = Counter()

    def record(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not re.match(r"PRAGMA|BEGIN|WITH \w+ AS\s+\(SELECT outbox", statement) and "outbox" not in statement:
            found[Path(str(connection.engine.url.database)).name] += 1

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def is_cached(policy: RoutePolicy) -> bool:
    """Whether a visitor's answer is cached."""
    return policy.cache is not None and not policy.access


async def test_each_compute_of_a_cache_reads_the_primary(keys: Keys, sqlite_template: Path, tmp_path: Path) -> None:
    """The replica is a file that never gets what is written, as one that lags for ever."""
    urls = [f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, tmp_path / name)}" for name in (PRIMARY, REPLICA)]
    environ = {"NAMESPACE": keys.namespace, "CONSUMER": "0", "DATABASE_URL": urls[0], "DATABASE_REPLICA_URL": urls[1]}
    app = create_test_app(environ)
    async with app.test_app():
        resources: Resources = app.extensions[EXTENSION]
        await seed(resources)
        routes = compile_routes(app)
        # Notices are in no database.
        rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("notices.")]
        cached = [rule for rule in rules if is_cached(routes[rule.endpoint].policy)]
        # First what is memoized: a later path may need it.
        paths = ["/api/v1/users/1", *(re.sub(r"<int:[^>]*>", "1", rule.rule) for rule in cached)]
        computed = 0
        for path in paths:
            with databases_asked() as asked:
                response = await app.test_client(use_cookies=False).get(path)
            assert response.status_code in (200, 404), path
            assert asked[REPLICA] == 0, path
            computed += asked[PRIMARY] > 0
        # Another read goes to the replica.
        with databases_asked() as asked:
            async with resources.database.read() as session:
                await session.scalar(select(func.count()).select_from(User))
        assert asked == {REPLICA: 1}
    assert computed == len(paths)
