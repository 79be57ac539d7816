"""Vector stores, their files and file batches; an id may have stood in several lists.

Whether a run's events tell the texts that its searches found.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAMES_STORES = sa.text("json_array_length(tool_resources, '$.file_search.vector_store_ids') > 0")
CAN_EXPIRE = sa.text("expires_at IS NOT NULL AND NOT expired")
IN_INGESTION = sa.text("status = 'in_progress' AND NOT claimed")
OWNERS = ("assistant", "thread")


def upgrade() -> None:
    results = sa.Column("shows_results", sa.Boolean(), server_default="0", nullable=False)
    op.add_column("run", results)
    op.create_table(
        "vector_store",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("expires_after", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("expires_at", sa.Integer(), nullable=True),
        sa.Column("last_active_at", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("expired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_vector_store")),
        sa.UniqueConstraint("id", name=op.f("uq_vector_store_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_vector_store_project_id_seq"), "vector_store", ["project_id", "seq"])
    op.create_index(
        "ix_vector_store_expiry",
        "vector_store",
        ["expires_at"],
        sqlite_where=CAN_EXPIRE,
        postgresql_where=CAN_EXPIRE,
    )

    op.create_table(
        "file_batch",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("vector_store_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vector_store_id"],
            ["vector_store.id"],
            name=op.f("fk_file_batch_vector_store_id_vector_store"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_file_batch")),
        sa.UniqueConstraint("id", name=op.f("uq_file_batch_id")),
    )
    op.create_index(op.f("ix_file_batch_vector_store_id"), "file_batch", ["vector_store_id"])

    op.create_table(
        "vector_store_file",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("vector_store_id", sa.String(), nullable=False),
        sa.Column("usage_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("last_error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("chunking_strategy", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("attributes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vector_store_id"],
            ["vector_store.id"],
            name=op.f("fk_vector_store_file_vector_store_id_vector_store"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_vector_store_file")),
        sqlite_autoincrement=True,
    )
    for columns, unique in (
        (["id", "vector_store_id"], True),
        (["vector_store_id", "seq"], False),
        (["vector_store_id", "status", "seq", "usage_bytes"], False),
        (["batch_id", "seq"], False),
    ):
        name = op.f(f"ix_vector_store_file_{'_'.join(columns)}")
        op.create_index(name, "vector_store_file", columns, unique=unique)
    op.create_index(
        "ix_vector_store_file_queue",
        "vector_store_file",
        ["project_id", "seq"],
        sqlite_where=IN_INGESTION,
        postgresql_where=IN_INGESTION,
    )

    op.create_table(
        "index_removal",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("vector_store_id", sa.String(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_index_removal")),
    )

    for owner in OWNERS:
        op.create_index(f"ix_{owner}_stores", owner, ["project_id"], sqlite_where=NAMES_STORES)
    _make_tombstone_anew(
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "id", name=op.f("pk_tombstone")),
    )


def downgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.drop_column("shows_results")
    _make_tombstone_anew(
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstone")),
    )
    op.create_index(op.f("ix_tombstone_scope"), "tombstone", ["scope"], unique=False)
    for owner in OWNERS:
        op.drop_index(f"ix_{owner}_stores", owner)
    for table in ("index_removal", "vector_store_file", "file_batch", "vector_store"):
        op.drop_table(table)


def _make_tombstone_anew(*schema: sa.Column[str] | sa.PrimaryKeyConstraint) -> None:
    """With another primary key, of which the older one takes what it can."""
    op.rename_table("tombstone", "old_tombstone")
    op.create_table("tombstone", *schema)
    op.execute(
        "INSERT OR IGNORE INTO tombstone (id, project_id, scope, position)"
        " SELECT id, project_id, scope, position FROM old_tombstone"
    )
    op.drop_table("old_tombstone")
