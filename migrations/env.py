"""Alembic's entry: runs the migrations on the connection that `server.db.migrate` hands over.

One transaction around all of them, begun before the first statement, so that a failed migration
leaves nothing behind.
"""

from alembic import context

from server.db.tables import metadata

connection = context.config.attributes["connection"]

context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=False,
)
raw = connection.connection.driver_connection
raw.execute("BEGIN IMMEDIATE")
try:
    context.run_migrations()
    raw.execute("COMMIT")
finally:
    if raw.in_transaction:
        raw.execute("ROLLBACK")
