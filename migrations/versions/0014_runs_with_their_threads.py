"""Runs know whether their request made their thread too. Of older ones it is not known: no."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("with_thread", sa.Boolean(), nullable=False, server_default="0")
    op.add_column("run", column)


def downgrade() -> None:
    op.drop_column("run", "with_thread")
