"""A database of any age is brought to the schema of this version."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from database_url import SERVER, database_url
from headrace.controller.events import EventLog
from headrace.controller.keys import Keys
from headrace.controller.migrations import _config, upgrade
from headrace.controller.roster import Roster
from headrace.controller.store import Store
from headrace.controller.tables import StoreBase
from headrace.ledger.bills import bill
from headrace.ledger.capacity import CapacityTimeline
from headrace.ledger.database import Database, DatabaseError
from headrace.ledger.schema import LedgerBase


def database_of(folder: Path) -> Database:
    return Database(database_url(folder))


def test_the_steps_lead_to_the_schema_of_the_code(tmp_path: Path) -> None:
    database = database_of(tmp_path)
    upgrade(database)
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(found, [StoreBase.metadata, LedgerBase.metadata]) == []


def test_an_existing_database_keeps_what_is_in_it(tmp_path: Path) -> None:
    database = database_of(tmp_path)
    upgrade(database)
    EventLog(database).add(1, "note", "before")
    database.close()
    again = database_of(tmp_path)
    upgrade(again)
    assert [event.message for event in EventLog(again).list()] == ["before"]


def test_a_database_of_a_newer_headrace_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = database_of(tmp_path)
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="written by a newer Headrace"):
        upgrade(database)


@pytest.mark.skipif(SERVER is not None, reason="of a file, not of a server")
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "headrace.db").write_text("this is not a database, and it is long enough to be read as one" * 20)
    with pytest.raises(DatabaseError, match="cannot open"):
        upgrade(database_of(tmp_path))


def test_a_url_that_cannot_be_used_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseError) as refused:
        Database("nosuchdatabase://me:secret@127.0.0.1/x")
    assert "secret" not in str(refused.value)


ONE_ENTITY = """
INSERT INTO endpoints VALUES ('e', 'chat', 1, 1, NULL, 'k', '', '{"overload": "reject"}', 2, NULL, 'NOT_UPDATING', '');
INSERT INTO config_versions VALUES ('e', 1, 1), ('e', 2, 1);
INSERT INTO served_entities VALUES
  ('e', 1, 'old', 'old-1', 'old', '{"name": "old", "engine": "simulated"}', 1, 2, FALSE, 100,
   '{"w_in": 1, "w_out": 1, "w_pp": 0, "w_dd": 0, "w_c": 0}', 1000000, 'USD', 'p', 'measured', 1),
  ('e', 2, 'new', 'new-1', 'new', '{"name": "new", "engine": "simulated"}', 1, 2, FALSE, 100,
   '{"w_in": 1, "w_out": 1, "w_pp": 0, "w_dd": 0, "w_c": 0}', 3000000, 'USD', 'p', 'measured', 1);
INSERT INTO replicas VALUES ('chat-1', 'e', 1, 'r', 5, 6, 7, 'replaced'), ('chat-2', 'e', 2, 's', 8, 9, NULL, NULL);
INSERT INTO keys VALUES ('k', 'd', 'admin', '["default"]', '', 1, NULL);
INSERT INTO capacity_points (endpoint, at_ms, ready, draining_own, min_chunks, endpoint_ready,
  price_micro_per_chunk_hour, config_version, "exists") VALUES
  ('e', 1000, 0, 0, 1, FALSE, 1000000, 1, TRUE),
  ('e', 2000, 2, 0, 1, TRUE, 1000000, 1, TRUE),
  ('e', 5000, 1, 0, 1, TRUE, 3000000, 2, TRUE),
  ('gone', 1000, 1, 0, 1, TRUE, 1000000, 9, TRUE),
  ('gone', 3000, 0, 0, 0, FALSE, 1000000, 9, FALSE);
"""
"""As the first version wrote it: an endpoint that has changed its model, and what is left of a deleted one."""


def test_a_database_of_endpoints_with_one_entity_goes_on_with_them(tmp_path: Path) -> None:
    database = database_of(tmp_path)
    with database.engine.execution_options(headrace_writes=True).begin() as connection:
        command.upgrade(_config(connection), "0001")
        for statement in ONE_ENTITY.split(";\n"):
            if statement.strip():
                connection.execute(text(statement.replace(":", "\\:")))
    upgrade(database)

    store = Store(database)
    (endpoint,) = store.endpoints()
    assert endpoint.active is not None
    (entity,) = endpoint.active.entities
    assert (entity.id, entity.name, entity.traffic, endpoint.options.fallback) == ("new", "new-1", 100, False)
    assert {r.id: r.entity_id for r in Roster(database, store.entity).all()} == {"chat-1": "old", "chat-2": "new"}
    assert [(key.weight, key.owner) for key in Keys(database).all()] == [(1.0, ("user", "k"))]

    timeline = CapacityTimeline(database)
    bills = bill(timeline, "e", 0, 10_000, 10_000)
    assert {one.entity: one.chunk_ms for one in bills.entities} == {"old": 2 * 3_000, "new": 5_000}
    assert {one.lines[0].price_micro_per_chunk_hour for one in bills.entities} == {1_000_000, 3_000_000}
    assert bill(timeline, "gone", 0, 10_000, 10_000).chunk_ms == 2_000
    assert {entity: point.exists for entity, point in timeline.newest("e").items()} == {"old": False, "new": True}
