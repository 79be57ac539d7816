"""What completed an upload, and the file that came of it, for completions that are sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = ("completion", "file_id")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("upload", sa.Column(name, sa.String(), nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("upload", name)
