"""The database's schema, step by step. ``upgrade`` brings a database of any age to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from headrace.ledger.database import Database, DatabaseError


def upgrade(database: Database) -> None:
    """Raises DatabaseError where the database cannot be opened, or was written by a newer Headrace."""
    scripts = ScriptDirectory.from_config(_config())
    try:
        with database.engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise DatabaseError(
                f"{database.name} has schema {found}, which this version does not know; it was written by a newer "
                "Headrace: install that one, or give another --data-dir"
            )
        with database.engine.execution_options(headrace_writes=True).begin() as connection:
            command.upgrade(_config(connection), "head")
    except SQLAlchemyError as error:
        raise DatabaseError(f"cannot open {database.name}: {getattr(error, 'orig', None) or error}") from None


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
