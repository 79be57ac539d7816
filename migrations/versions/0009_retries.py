"""Messages and runs know the request that made them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("message", "run"):
        op.add_column(table, sa.Column("request_hash", sa.String(), nullable=True))
        given_to = sa.Column("given_to", sa.Integer(), nullable=False, server_default="0")
        op.add_column(table, given_to)
    op.add_column("message", sa.Column("after_run", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("message", "after_run")
    for table in ("run", "message"):
        op.drop_column(table, "given_to")
        op.drop_column(table, "request_hash")
