"""Files, and uploads that become files; an index of who names files."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES_FILES = sa.text("json_array_length(tool_resources, '$.code_interpreter.file_ids') > 0")
EXPIRES = sa.text("expires_at IS NOT NULL")
PENDING = sa.text("status = 'pending'")
OWNERS = ("assistant", "thread")


def upgrade() -> None:
    op.create_table(
        "file",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("status_details", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_file")),
        sa.UniqueConstraint("id", name=op.f("uq_file_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_file_project_id_seq"), "file", ["project_id", "seq"])
    op.create_index(op.f("ix_file_sha256"), "file", ["sha256"])
    op.create_index(
        "ix_file_expiry", "file", ["expires_at"], sqlite_where=EXPIRES, postgresql_where=EXPIRES
    )

    op.create_table(
        "upload",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=False),
        sa.Column("mime_type", sa.String(), nullable=False),
        sa.Column("lifetime", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_upload")),
        sa.UniqueConstraint("id", name=op.f("uq_upload_id")),
    )
    op.create_index(
        "ix_upload_pending",
        "upload",
        ["expires_at"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )

    op.create_table(
        "upload_part",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("upload_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["upload.id"],
            name=op.f("fk_upload_part_upload_id_upload"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_upload_part")),
        sa.UniqueConstraint("id", name=op.f("uq_upload_part_id")),
    )
    op.create_index(op.f("ix_upload_part_sha256"), "upload_part", ["sha256"])
    op.create_index(op.f("ix_upload_part_upload_id"), "upload_part", ["upload_id"])

    for owner in OWNERS:
        op.create_index(f"ix_{owner}_files", owner, ["project_id"], sqlite_where=NAMES_FILES)


def downgrade() -> None:
    for owner in OWNERS:
        op.drop_index(f"ix_{owner}_files", owner)
    for table in ("upload_part", "upload", "file"):
        op.drop_table(table)
