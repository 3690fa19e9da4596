"""Runs migrations on the connection that :func:`bruno.serving.store.migrate` passes."""

from alembic import context

from bruno.serving.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
