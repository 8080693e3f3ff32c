"""Reads of a large database: 100,000 articles and 1,000,000 messages in PostgreSQL, asked one request at a time.

No answer comes from a cache. Words are spread as in a language: the most frequent one is in nine of ten articles.
"""

import asyncio

import asyncpg  # type: ignore[import-untyped]

from app.migrations import upgrade
from bench.rounds import Side, redis_server, report, run_rounds
from tests.services import PostgresServer

USERS, ARTICLES, MESSAGES = 1000, 100_000, 1_000_000
VOCABULARY = 20_000
SETTINGS = (
    "SET maintenance_work_mem = '256MB'",
    "SET synchronous_commit = off",
    # The rows fit each other: no foreign key is checked, which took most of the time.
    "SET session_replication_role = replica",
    "DROP INDEX ix_articles_search_words",
)
FILL: tuple[tuple[str, tuple[int, ...]], ...] = (
    (
        """INSERT INTO users (email, name, password_hash, roles, created_at)
        SELECT 'user' || n || '@example.org', 'User ' || n, 'x', '[]', now() FROM generate_series(1, $1::int) n""",
        (USERS,),
    ),
    (
        """INSERT INTO articles (author_id, title, content, summary, keywords, views, version, processed_version,
        published_at, updated_at)
        SELECT 1 + n % $1::int, 'Title ' || n, repeat(md5(n::text) || ' ', 60), repeat(md5(n::text), 8),
        '["one", "two", "three"]', (random() * 10000)::int, 1, 1, t, t
        FROM (SELECT n, now() - n * interval '5 minutes' AS t FROM generate_series(1, $2::int) n) s""",
        (USERS, ARTICLES),
    ),
    (
        """INSERT INTO articles_search (article_id, words)
        SELECT a.id, array_to_tsvector(ARRAY(SELECT DISTINCT 'w' || floor(power(random(), 3) * $1::int)::int
        FROM generate_series(1, 60) g WHERE g + a.id > 0)) FROM articles a""",
        (VOCABULARY,),
    ),
    (
        """INSERT INTO messages (sender_id, recipient_id, content, created_at, read_at)
        SELECT 1 + n % $1::int, 1 + (n::bigint * 7919) % $1::int, repeat(md5(n::text), 4), now(),
        CASE WHEN n % 5 > 0 THEN now() END FROM generate_series(1, $2::int) n""",
        (USERS, MESSAGES),
    ),
)
FINISH = (
    "CREATE INDEX ix_articles_search_words ON articles_search USING gin (words) WITH (fastupdate = off)",
    "VACUUM ANALYZE",
)


def main(rounds: int) -> None:
    server = PostgresServer()
    try:
        server.start().create_database()
        upgrade(server.url)
        asyncio.run(fill(server.url))
        with redis_server() as redis_url:
            environ = {"REDIS_URL": redis_url, "DATABASE_URL": server.url, "CONSUMER": "0"}
            side = Side("quartet", "bench.sides.data_reads", environ)
            report("data", run_rounds((side,), rounds=rounds))
    finally:
        server.close()


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    for statement in SETTINGS:
        await connection.execute(statement)
    for statement, arguments in FILL:
        await connection.execute(statement, *arguments)
    for statement in FINISH:
        await connection.execute(statement)
    await connection.close()
