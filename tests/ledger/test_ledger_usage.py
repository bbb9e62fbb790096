"""Usage added up: raw tokens and work side by side, each request in exactly one sum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from database_url import database_url
from headrace.ledger.database import Database
from headrace.ledger.schema import LedgerBase, Usage
from headrace.ledger.usage import HOUR_MS, Group, Window, grouped, in_flight, requests, totals

T0 = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS


def row(
    rid: str,
    at: int | None,
    *,
    key: str = "k1",
    endpoint: str = "a",
    entity: str | None = "big",
    ended: str = "settled",
) -> Usage:
    rejected = ended == "rejected"
    return Usage(
        rid=rid,
        writer="g",
        endpoint=f"id-{endpoint}",
        endpoint_name=endpoint,
        entity=entity,
        key=key,
        settled_ms=None if at is None else T0 + at,
        ended=None if at is None else ended,
        input_tokens=0 if rejected else 10,
        cached_tokens=0 if rejected else 4,
        output_tokens=0 if rejected else 5,
        work=0.0 if rejected else 12.5,
        exact=ended != "recovered",
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(database_url(tmp_path))
    LedgerBase.metadata.create_all(database.engine)
    with database.write() as session:
        session.add_all(
            [
                row("r1", 0),
                row("r2", 1, key="k2", entity="small"),
                row("r3", HOUR_MS, endpoint="b"),
                row("r4", HOUR_MS + 5, ended="recovered"),
                row("r5", HOUR_MS + 6, entity=None, ended="rejected"),
                row("r6", None),
            ]
        )
    yield database
    database.close()


def test_each_group_has_tokens_and_work_side_by_side(database: Database) -> None:
    with database.read() as session:
        a, b = grouped(session, Window(), Group.ENDPOINT)
    assert (a.group, a.requests, a.input_tokens, a.cached_tokens, a.output_tokens, a.total_tokens, a.work) == (
        "a", 3, 30, 12, 15, 45, 37.5,
    )  # fmt: skip
    assert (a.inexact, a.recovered, a.rejected) == (1, 1, 1)
    assert (b.group, b.requests, b.total_tokens) == ("b", 1, 15)


@pytest.mark.parametrize("by", list(Group))
def test_the_groups_add_up_to_the_total(database: Database, by: Group) -> None:
    with database.read() as session:
        groups, total = grouped(session, Window(), by), totals(session, Window())
    assert sum(one.total_tokens for one in groups) == total.total_tokens == 60
    assert sum(one.rejected for one in groups) == total.rejected == 1


def test_what_was_sent_to_no_entity_is_a_group_of_its_own(database: Database) -> None:
    with database.read() as session:
        told = {one.group: (one.requests, one.rejected) for one in grouped(session, Window(), Group.ENTITY)}
    assert told == {"": (0, 1), "big": (3, 0), "small": (1, 0)}


def test_hours_are_named_by_their_start(database: Database) -> None:
    with database.read() as session:
        hours = grouped(session, Window(), Group.HOUR)
    assert [(int(hour.group), hour.requests) for hour in hours] == [(T0, 2), (T0 + HOUR_MS, 2)]


def test_a_window_has_its_start_and_not_its_end(database: Database) -> None:
    with database.read() as session:
        assert totals(session, Window(from_ms=T0, to_ms=T0 + 1)).requests == 1
        assert totals(session, Window(from_ms=T0 + 1, to_ms=T0 + HOUR_MS)).requests == 1
        assert totals(session, Window(endpoint="b")).requests == 1
        assert totals(session, Window(endpoint="id-b")).requests == 1
        assert totals(session, Window(key="k2")).requests == 1
        assert totals(session, Window(key="nobody")).total_tokens == 0


def test_requests_are_paged_newest_first_and_those_in_flight_are_counted_apart(database: Database) -> None:
    with database.read() as session:
        first = requests(session, Window(), limit=2)
        rest = requests(session, Window(), limit=10, after=first[-1].rid)
        assert [one.rid for one in (*first, *rest)] == ["r5", "r4", "r3", "r2", "r1"]
        assert in_flight(session) == 1
