"""Turns remember what they wrote, and after which prompt; runs have options; fair queues."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WRITTEN = ("prompt_length", "prompt_digest", "text")


def upgrade() -> None:
    with op.batch_alter_table("turn") as turn:
        turn.add_column(
            sa.Column("prompt_length", sa.Integer(), nullable=False, server_default="0")
        )
        turn.add_column(sa.Column("prompt_digest", sa.String(), nullable=False, server_default=""))
        turn.add_column(sa.Column("text", sa.String(), nullable=False, server_default=""))

    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("x_sampling", sa.JSON(none_as_null=True), nullable=True))
    in_queue = sa.text("status = 'queued' AND NOT held")
    op.create_index(
        "ix_run_queue",
        "run",
        ["project_id", "seq"],
        sqlite_where=in_queue,
        postgresql_where=in_queue,
    )


def downgrade() -> None:
    op.drop_index("ix_run_queue", "run")
    with op.batch_alter_table("run") as run:
        run.drop_column("x_sampling")
    with op.batch_alter_table("turn") as turn:
        for column in WRITTEN:
            turn.drop_column(column)
