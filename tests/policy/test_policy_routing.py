"""Which replica: the least loaded, or the one that may have the prompt's head cached, and never an idle slot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.affinity import CLASSES, Rendezvous
from headrace.policy.routing import Replicas, ReplicaState


@dataclass(frozen=True)
class Named:
    id: str


def winners(count: int) -> list[str]:
    """The preferred member of every class, among ``count``."""
    rendezvous = Rendezvous([Named(f"r{number}") for number in range(count)])
    return [rendezvous.preferred(prefix).id for prefix in range(CLASSES)]


def test_prefixes_are_spread_evenly() -> None:
    for count in (2, 3, 5, 8):
        shares = Counter(winners(count))
        assert len(shares) == count
        assert all(abs(share - CLASSES / count) < 4 * (CLASSES / count) ** 0.5 for share in shares.values())


def test_another_replica_takes_only_what_it_wins() -> None:
    moved = [(before, after) for before, after in zip(winners(4), winners(5), strict=True) if before != after]
    assert {after for _, after in moved} == {"r4"}
    assert abs(len(moved) - CLASSES / 5) < 4 * (CLASSES / 5) ** 0.5


def test_a_preference_is_the_same_in_every_process() -> None:
    assert winners(3)[:8] == ["r0", "r1", "r0", "r0", "r0", "r2", "r2", "r2"]


def test_any_hash_names_a_replica_and_a_class_has_one_preference() -> None:
    rendezvous = Rendezvous([Named("a"), Named("b")])
    assert rendezvous.preferred(-1) is rendezvous.preferred(CLASSES - 1)
    assert rendezvous.preferred(2**64 + 5) is rendezvous.preferred(5)


loads = st.lists(
    st.tuples(
        st.integers(0, 3), st.floats(0, 5000), st.booleans(), st.booleans()
    ),  # in flight, work, draining, blocked
    max_size=6,
)


@given(loads, st.one_of(st.none(), st.integers(0, CLASSES)), st.floats(0, 3000))
def test_a_request_goes_to_the_least_loaded_or_to_its_preference_within_what_a_hit_saves(
    states: list[tuple[int, float, bool, bool]], prefix: int | None, saving: float
) -> None:
    replicas = Replicas()
    replicas.update(ReplicaState(f"r{number}", 3, draining) for number, (_, _, draining, _) in enumerate(states))
    for number, (in_flight, work, _, blocked) in enumerate(states):
        load = replicas.get(f"r{number}")
        assert load is not None
        load.in_flight, load.outstanding_work = in_flight, work
        if blocked:
            load.health.failed(0.0)
    open_now = [
        load for load in replicas if not load.draining and load.in_flight < 3 and load.health.blocked_until <= 0.0
    ]
    picked = replicas.pick(0.0, prefix, saving)
    assert (picked is None) == (not open_now)  # no slot stays idle for the sake of a preference
    if picked is None:
        assert replicas.slot_at(0.0) != 0.0
        return
    assert replicas.slot_at(0.0) == 0.0
    assert picked in open_now
    least = min(open_now, key=lambda load: (load.outstanding_work, load.id))
    if prefix is None:
        assert picked is least
        return
    preferred = Rendezvous(replicas.ready).preferred(prefix)
    near = preferred in open_now and preferred.outstanding_work <= least.outstanding_work + saving
    assert picked is (preferred if near else least)


def test_a_replica_that_is_gone_keeps_its_requests_until_they_end() -> None:
    replicas = Replicas()
    replicas.update([ReplicaState("a", 2, False)])
    load = replicas.get("a")
    assert load is not None
    load.take("r", 10.0)
    replicas.update([])
    assert replicas.pick(0.0, None, 0.0) is None
    assert list(replicas) == [load]
    load.release("r", 10.0, failed=False)
    replicas.forget(load)
    assert list(replicas) == []


def test_preferences_outlive_a_snapshot_that_changes_nothing() -> None:
    replicas = Replicas()
    states = [ReplicaState(f"r{number}", 2, False) for number in range(3)]
    replicas.update(states)
    before = replicas.ready
    replicas.update(states)
    assert replicas.ready is before


def test_slots_of_a_replica_may_change() -> None:
    replicas = Replicas()
    replicas.update([ReplicaState("a", 1, False)])
    load = replicas.get("a")
    assert load is not None
    load.take("r", 10.0)
    assert replicas.slot_at(5.0) is None
    replicas.update([ReplicaState("a", 2, False)])
    assert replicas.slot_at(5.0) == 5.0
