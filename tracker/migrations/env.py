"""Alembic's door into the schema; the connection is handed in by :mod:`tracker.migrate`."""

from alembic import context

from tracker.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things in place
    transactional_ddl=True,
)
context.run_migrations()
