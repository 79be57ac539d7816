"""Threads and runs listed by project, and found by their status and their metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OWNERS = ("thread", "run")
LISTS = (["project_id", "seq"], ["project_id", "status", "seq"])


def upgrade() -> None:
    for columns in LISTS:
        op.create_index(op.f(f"ix_run_{'_'.join(columns)}"), "run", columns)
    for owner in OWNERS:
        table = f"{owner}_metadata"
        op.create_table(
            table,
            sa.Column("project_id", sa.String(), nullable=False),
            sa.Column("key", sa.String(), nullable=False),
            sa.Column("value", sa.String(), nullable=False),
            sa.Column("seq", sa.Integer(), nullable=False),
            sa.ForeignKeyConstraint(
                ["seq"], [f"{owner}.seq"], name=op.f(f"fk_{table}_seq_{owner}"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint("project_id", "key", "value", "seq", name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
        op.create_index(op.f(f"ix_{table}_seq"), table, ["seq"])
        op.execute(
            f"INSERT INTO {table} (project_id, key, value, seq)"
            f" SELECT {owner}.project_id, pair.key, pair.value, {owner}.seq"
            f" FROM {owner}, json_each({owner}.metadata) AS pair"
        )


def downgrade() -> None:
    for owner in OWNERS:
        op.drop_table(f"{owner}_metadata")
    for columns in LISTS:
        op.drop_index(op.f(f"ix_run_{'_'.join(columns)}"), "run")
