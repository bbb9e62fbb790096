"""A database of any age is brought to the schema of this version."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from headrace.controller.events import EventLog
from headrace.controller.migrations import upgrade
from headrace.controller.tables import StoreBase
from headrace.ledger.database import Database, DatabaseError
from headrace.ledger.schema import LedgerBase


def sqlite(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'headrace.db'}")


def test_the_steps_lead_to_the_schema_of_the_code(tmp_path: Path) -> None:
    database = sqlite(tmp_path)
    upgrade(database)
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(found, [StoreBase.metadata, LedgerBase.metadata]) == []


def test_an_existing_database_keeps_what_is_in_it(tmp_path: Path) -> None:
    database = sqlite(tmp_path)
    upgrade(database)
    EventLog(database).add(1, "note", "before")
    database.close()
    again = sqlite(tmp_path)
    upgrade(again)
    assert [event.message for event in EventLog(again).list()] == ["before"]


def test_a_database_of_a_newer_headrace_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = sqlite(tmp_path)
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="written by a newer Headrace"):
        upgrade(database)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "headrace.db").write_text("this is not a database, and it is long enough to be read as one" * 20)
    with pytest.raises(DatabaseError, match="cannot open"):
        upgrade(sqlite(tmp_path))


def test_a_url_that_cannot_be_used_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseError) as refused:
        Database("nosuchdatabase://me:secret@127.0.0.1/x")
    assert "secret" not in str(refused.value)
