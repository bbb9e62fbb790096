"""Which database the tests of store and ledger run on: SQLite, or the server that an environment variable names.

``HEADRACE_TEST_DATABASE_URL=postgresql+psycopg://user@127.0.0.1:5432/postgres`` makes a database of its own for each
folder that a test asks for, and drops them all at the end.
"""

from __future__ import annotations

import atexit
import functools
import os
import uuid
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

SERVER = os.environ.get("HEADRACE_TEST_DATABASE_URL")


def database_url(folder: Path) -> str:
    """The same for the same folder: what a test has written there is found again."""
    return f"sqlite:///{folder / 'headrace.db'}" if SERVER is None else _on_server(folder.resolve())


@functools.cache
def _on_server(folder: Path) -> str:
    name = f"headrace_test_{uuid.uuid4().hex[:12]}"
    _say(f"CREATE DATABASE {name}")
    atexit.register(_say, f"DROP DATABASE {name} WITH (FORCE)")
    return make_url(SERVER or "").set(database=name).render_as_string(hide_password=False)


def _say(statement: str) -> None:
    engine = create_engine(SERVER or "", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
