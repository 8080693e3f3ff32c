"""Avatars, and when an API key was last used."""

import sqlalchemy as sa
from alembic import op

revision = "users_0002"
down_revision = "users_0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "avatars",
        sa.Column("user_id", BIG, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("upload", sa.LargeBinary()),
        sa.Column("image", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("user_id", name="pk_avatars"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_avatars_user_id_users", ondelete="CASCADE"),
    )
    # Nothing has ever been written to avatar_url.
    op.drop_column("users", "avatar_url")
    op.add_column("users", sa.Column("avatar_version", sa.String(32)))
    op.add_column("api_keys", sa.Column("last_used_at", MOMENT))


def downgrade() -> None:
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("users", "avatar_version")
    op.add_column("users", sa.Column("avatar_url", sa.String(500)))
    op.drop_table("avatars")
