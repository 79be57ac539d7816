"""Messages wait, as runs do, for the active run of their thread."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WAITS = sa.text("held")


def upgrade() -> None:
    held = sa.Column("held", sa.Boolean(), nullable=False, server_default="0")
    op.add_column("message", held)
    for table in ("message", "run"):
        op.create_index(
            f"ix_{table}_held",
            table,
            ["thread_id", "seq"],
            sqlite_where=WAITS,
            postgresql_where=WAITS,
        )


def downgrade() -> None:
    for table in ("run", "message"):
        op.drop_index(f"ix_{table}_held", table)
    op.drop_column("message", "held")
