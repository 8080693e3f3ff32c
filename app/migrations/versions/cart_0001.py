"""Carts."""

import sqlalchemy as sa
from alembic import op

revision = "cart_0001"
down_revision = None
branch_labels = ("cart",)
depends_on = ("users_0001",)

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "carts",
        sa.Column("user_id", BIG, nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("merged", sa.String(32)),
        sa.PrimaryKeyConstraint("user_id", name="pk_carts"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_carts_user_id_users", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("carts")
