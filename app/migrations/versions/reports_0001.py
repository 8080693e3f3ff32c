"""Reports and their parts."""

import sqlalchemy as sa
from alembic import op

revision = "reports_0001"
down_revision = None
branch_labels = ("reports",)
depends_on = ("users_0001",)

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", BIG, nullable=False),
        sa.Column("task_id", sa.String(64), nullable=False),
        sa.Column("owner_id", BIG, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("start", sa.Date(), nullable=False),
        sa.Column("end", sa.Date(), nullable=False),
        sa.Column("rows", sa.Integer()),
        sa.Column("parts", sa.Integer()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_reports_owner_id_users", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reports_task_id", "reports", ["task_id"])
    op.create_index("ix_reports_owner_id", "reports", ["owner_id"])
    op.create_index("ix_reports_expires_at", "reports", ["expires_at"])
    op.create_table(
        "report_parts",
        sa.Column("report_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "number", name="pk_report_parts"),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name="fk_report_parts_report_id_reports", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("report_parts")
    op.drop_table("reports")
