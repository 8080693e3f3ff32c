"""Articles."""

import sqlalchemy as sa
from alembic import op

revision = "articles_0001"
down_revision = None
branch_labels = ("articles",)
depends_on = ("users_0001",)

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "articles",
        sa.Column("id", BIG, nullable=False),
        sa.Column("author_id", BIG),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text()),
        sa.Column("keywords", sa.JSON(), nullable=False),
        sa.Column("views", BIG, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("processed_version", sa.Integer(), nullable=False),
        sa.Column("published_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_articles"),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_articles_author_id_users", ondelete="SET NULL"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_articles_author_id", "articles", ["author_id"])
    op.create_index("ix_articles_views", "articles", ["views"])
    op.create_index("ix_articles_published_at_id", "articles", ["published_at", "id"])


def downgrade() -> None:
    op.drop_table("articles")
