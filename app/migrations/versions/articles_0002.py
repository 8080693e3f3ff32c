"""Search: the words of each article."""

import re
import unicodedata

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "articles_0002"
down_revision = "articles_0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BATCH = 500
MOST_BYTES_OF_WORDS = 400_000


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        # The words are split before: at spaces, and all that is not ASCII belongs to a word.
        op.execute("CREATE VIRTUAL TABLE articles_search USING fts5(words, tokenize = 'ascii')")
        op.execute(
            "CREATE TRIGGER articles_search_delete AFTER DELETE ON articles "
            "BEGIN DELETE FROM articles_search WHERE rowid = old.id; END"
        )
        insert = sa.text("INSERT INTO articles_search (rowid, words) VALUES (:id, :words)")
    else:
        op.create_table(
            "articles_search",
            sa.Column("article_id", BIG, nullable=False),
            sa.Column("words", postgresql.TSVECTOR(), nullable=False),
            sa.PrimaryKeyConstraint("article_id", name="pk_articles_search"),
            sa.ForeignKeyConstraint(
                ["article_id"], ["articles.id"], name="fk_articles_search_article_id_articles", ondelete="CASCADE"
            ),
        )
        # Without a list of pending entries, which each search would read as a whole.
        op.create_index(
            "ix_articles_search_words",
            "articles_search",
            ["words"],
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        )
        insert = sa.text(
            "INSERT INTO articles_search (article_id, words) "
            "VALUES (:id, array_to_tsvector(string_to_array(:words, ' ')))"
        )
    last = 0
    page = sa.text("SELECT id, title, content FROM articles WHERE id > :last ORDER BY id LIMIT :batch")
    while rows := connection.execute(page, {"last": last, "batch": BATCH}).all():
        connection.execute(insert, [{"id": row.id, "words": _words(f"{row.title} {row.content}")} for row in rows])
        last = rows[-1].id


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER articles_search_delete")
    op.drop_table("articles_search")


def _words(text: str) -> str:
    """As this version splits texts."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    found: dict[str, None] = {}
    length = 0
    for match in re.finditer(r"[^\W_]+", plain.casefold()):
        word = match[0][:64]
        if word not in found:
            length += len(word.encode()) + 1
            if length > MOST_BYTES_OF_WORDS:
                break
            found[word] = None
    return " ".join(found)
