"""Runs that wait for others of their threads do not count against their keys."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

IS_ACTIVE = sa.text("status IN ('queued', 'in_progress', 'requires_action', 'cancelling')")
AT_WORK = sa.text(f"{IS_ACTIVE.text} AND NOT held")


def upgrade() -> None:
    _index_of(AT_WORK)


def downgrade() -> None:
    _index_of(IS_ACTIVE)


def _index_of(rows: sa.TextClause) -> None:
    op.drop_index("ix_run_key", "run")
    op.create_index("ix_run_key", "run", ["api_key_id"], sqlite_where=rows, postgresql_where=rows)
