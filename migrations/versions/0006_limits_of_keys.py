"""Limits of single keys, and which key a run was created with."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

IS_ACTIVE = sa.text("status IN ('queued', 'in_progress', 'requires_action', 'cancelling')")


def upgrade() -> None:
    limits = sa.Column("limits", sa.JSON(none_as_null=True), server_default="{}", nullable=False)
    op.add_column("api_key", limits)
    op.add_column("run", sa.Column("api_key_id", sa.String(), nullable=True))
    op.create_index(
        "ix_run_key", "run", ["api_key_id"], sqlite_where=IS_ACTIVE, postgresql_where=IS_ACTIVE
    )


def downgrade() -> None:
    op.drop_index("ix_run_key", "run")
    op.drop_column("run", "api_key_id")
    op.drop_column("api_key", "limits")
