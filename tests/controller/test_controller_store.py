"""What the store and the keys keep over a restart, and what they never hold."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from controller_world import World
from sqlalchemy import text

from database_url import database_url
from headrace.controller.endpoint import Options
from headrace.controller.keys import Keys, digest
from headrace.controller.migrations import upgrade
from headrace.controller.store import Store
from headrace.ledger.database import Database


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    world.model()
    return world


async def test_an_endpoint_is_the_same_after_a_restart(world: World) -> None:
    world.create("a", 1, 2, options=Options(overload="reject", queue_deadline_s=7.0))
    world.create("b", 0, 1)
    await world.step()
    world.fleet.load()
    await world.step(1)
    world.update("a", 2, 2)
    before = world.controller.store.endpoints()
    world.restart()
    assert world.controller.store.endpoints() == before
    assert (before[0].active is not None, before[0].pending is not None) == (True, True)


async def test_the_terms_of_every_config_are_kept_for_good(world: World) -> None:
    endpoint = world.create("a", 0, 1)
    await world.step()
    world.model(chunk=500)
    world.update("a", 0, 2)
    await world.step()
    world.controller.endpoints.delete("a")
    world.restart()
    store = world.controller.store
    first, second = store.config(endpoint.id, 1), store.config(endpoint.id, 2)
    assert first is not None and second is not None
    assert (first.entities[0].chunk, second.entities[0].chunk) == (1000, 500)
    assert store.weights(endpoint.id, 1, first.entities[0].id) == first.entities[0].weights
    assert store.weights(endpoint.id, 1, "another") is None
    assert store.config(endpoint.id, 3) is None
    assert store.ever_had_an_endpoint()
    assert store.names() == {endpoint.id: "a"}


def test_counters_grow_over_restarts(tmp_path: Path) -> None:
    counted = []
    for _ in range(3):
        database = Database(database_url(tmp_path))
        upgrade(database)
        store = Store(database)
        counted += [store.count("snapshot"), store.count("snapshot")]
        database.close()
    assert counted == [1, 2, 3, 4, 5, 6]


def keys_in(folder: Path) -> tuple[Keys, Database]:
    database = Database(database_url(folder))
    upgrade(database)
    return Keys(database), database


def test_the_first_admin_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    keys, database = keys_in(tmp_path)
    assert keys.ensure_admin(file, 1) is True
    text_of_it = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = keys.find(text_of_it)
    assert found is not None and (found.role, found.tiers) == ("admin", ("priority", "default", "flex"))
    database.close()

    again, database = keys_in(tmp_path)
    assert again.ensure_admin(file, 2) is False
    assert file.read_text().strip() == text_of_it
    assert again.find(text_of_it) == found
    database.close()


def test_a_start_that_died_over_the_admin_key_is_made_good_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    file.write_text("hr-00000000.of-a-start-that-died\n")
    (tmp_path / "admin.key.new").write_text("half a k")
    keys, _ = keys_in(tmp_path)
    assert keys.ensure_admin(file, 1) is True
    assert keys.find(file.read_text().strip()) is not None
    assert sorted(path.name for path in tmp_path.glob("admin*")) == ["admin.key"]


def test_no_key_is_in_the_database(tmp_path: Path) -> None:
    keys, database = keys_in(tmp_path)
    key, text_of_it = keys.create(role="query", tiers=("default",), name="app", now_ms=1)
    assert text_of_it.startswith(f"hr-{key.id}.")
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM keys")).all()
    assert text_of_it.partition(".")[2] not in repr(rows)
    assert digest(text_of_it) in repr(rows)
    database.close()
    assert not any(text_of_it.partition(".")[2].encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_revoked_key_is_found_no_more_and_listed_for_good(tmp_path: Path) -> None:
    keys, database = keys_in(tmp_path)
    key, text_of_it = keys.create(role="query", tiers=("default",), name="app", now_ms=1)
    assert keys.revoke(key.id, 5).revoked_ms == 5
    assert keys.revoke(key.id, 9).revoked_ms == 5
    assert keys.find(text_of_it) is None
    database.close()
    again, _ = keys_in(tmp_path)
    assert again.find(text_of_it) is None
    assert [one.revoked_ms for one in again.all()] == [5]
    with pytest.raises(KeyError):
        again.revoke("00000000", 1)
