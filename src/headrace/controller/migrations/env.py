"""Run by Alembic: applies the steps on the connection that ``upgrade`` holds, in its transaction."""

from __future__ import annotations

from alembic import context

from headrace.controller.tables import StoreBase
from headrace.ledger.schema import LedgerBase

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[StoreBase.metadata, LedgerBase.metadata],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
