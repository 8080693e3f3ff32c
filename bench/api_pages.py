"""What each application of the API's benchmark answers, and to whom. Needs no package: peers import it.

GET /cached     a page, cached as a whole, limited by the client's address
GET /session    the user of the session and a page from the cache, limited by the client's address
POST /session   begins the session of USER
POST /records   limited by the client's address; stores the record that was sent, and answers 201 with it
"""

import itertools
import os
from typing import Any

REDIS_URL = os.environ.get("REDIS_URL", "")
# redis-py refuses a command where its pool of 100 is in use.
POOLED_URL = f"{REDIS_URL}?max_connections=2000"
TTL_SECONDS = 600
RECORD_TTL_SECONDS = 60
# Never reached. A short window favours those that store each request of it.
PER_SECOND = 100_000
USER = {"id": 7, "name": "Ada"}
RECORDS = [{"id": n, "title": f"Article {n}", "views": n * 7, "keywords": ["a", "b"]} for n in range(20)]
_made = itertools.count(1)


def page() -> dict[str, Any]:
    """The page of a list. Each is another one: only from a cache comes the same."""
    return {"made": next(_made), "records": RECORDS}
