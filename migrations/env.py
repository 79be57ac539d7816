"""Alembic's entry: runs the migrations on the connection that `server.db.migrate` hands over.

One transaction around all of them, begun before the first statement, so that a failed migration
leaves nothing behind. Foreign keys are off meanwhile, or a table that is made anew would take its
children with it when the old one is dropped; they are checked before the commit.
"""

from alembic import context

from server.db.connection import driver, roll_back
from server.db.tables import metadata

connection = context.config.attributes["connection"]
raw = driver(connection)

if not connection.in_transaction():  # else Alembic would commit after each migration
    connection.begin()
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=False,
)

raw.execute("PRAGMA foreign_keys = OFF")  # has no effect inside a transaction
raw.execute("BEGIN IMMEDIATE")
try:
    context.run_migrations()
    if orphan := raw.execute("PRAGMA foreign_key_check").fetchone():
        raise RuntimeError(f"a migration left an orphan behind: {orphan}")
    raw.execute("COMMIT")
finally:
    roll_back(raw)
    raw.execute("PRAGMA foreign_keys = ON")
