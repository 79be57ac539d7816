"""Turns remember what they wrote and after which prompt, so that prompts get their own ids back."""

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


def downgrade() -> None:
    with op.batch_alter_table("turn") as turn:
        for column in WRITTEN:
            turn.drop_column(column)
