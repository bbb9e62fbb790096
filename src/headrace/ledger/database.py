"""The database under the ledger and the controller's store: SQLite in WAL mode by default, PostgreSQL by URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process' write before it gives up."""


class DatabaseError(Exception):
    """The database cannot be opened; the message says why, without the password of its URL."""


class Database:
    """Transactions for reading and for writing. Safe for use by several threads."""

    def __init__(self, url: str) -> None:
        """Raises DatabaseError for a URL that cannot be used."""
        try:
            self.engine = create_engine(url)
        except (ArgumentError, SQLAlchemyError, ImportError) as error:
            raise DatabaseError(f"cannot use the database: {type(error).__name__}: {error}") from None
        self.name = make_url(url).render_as_string(hide_password=True)
        if self.engine.dialect.name == "sqlite":
            _prepare_sqlite(self.engine)
        self._writing = self.engine.execution_options(headrace_writes=True)
        # Writers of this process take turns here, as SQLite's own waiting is polling with pauses.
        self._turn = threading.Lock()
        self._joint = _Joint()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view; nothing is written."""
        if self._joint.session is not None:
            yield self._joint.session
            return
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, undone by an exception. Inside ``together`` it is a part of that one;
        otherwise not to be nested."""
        if self._joint.session is not None:
            yield self._joint.session
            return
        with self._turn, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that this thread reads and writes inside is one transaction. Nothing may be awaited inside: what else
        runs in the thread would write into it."""
        with self.write() as session, session.no_autoflush:  # rows that are added go out together, at the end
            self._joint.session = session
            try:
                yield
            finally:
                self._joint.session = None

    def close(self) -> None:
        self.engine.dispose()


class _Joint(threading.local):
    """The transaction that a thread has open for all that it does."""

    session: Session | None = None


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # The driver's own idea of when a transaction begins is switched off: BEGIN is sent below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # In WAL mode this loses at most the last transactions on power failure, never consistency; journal positions
        # are written with the rows, so what is lost is ingested again.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads before it writes would otherwise fail, not wait, when another one wrote in between.
        writes = connection.get_execution_options().get("headrace_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
