"""What alembic runs: migrations inside the connection and transaction that ``store/migrate.py`` has opened."""

from alembic import context

from store import conversation_tables as _conversation_tables  # noqa: F401  # its tables are part of the metadata
from store import flow_tables as _flow_tables  # noqa: F401  # its tables are part of the metadata
from store import history_tables as _history_tables  # noqa: F401  # likewise
from store import memory_tables as _memory_tables  # noqa: F401  # its tables are part of the metadata
from store import template_tables as _template_tables  # noqa: F401  # likewise
from store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
