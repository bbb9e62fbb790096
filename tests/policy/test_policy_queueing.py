"""The fair queue: shares between bands and keys, and a queue that stays right whatever leaves it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.policy.queueing import BAND_WEIGHTS, Band, FairQueue, Waiting

LARGEST = 100.0


def waiting(rid: str, key: str = "k", band: Band = "default", work: float = 1.0, arrived: float = 0.0) -> Waiting:
    return Waiting(rid=rid, key=key, band=band, work=work, arrived=arrived)


def serve(queue: FairQueue[Waiting]) -> Waiting:
    head = queue.head()
    assert head is not None
    queue.serve(head)
    return head


works = st.lists(st.floats(1, LARGEST), min_size=60, max_size=60)


@given(works, works)
def test_keys_that_always_wait_differ_by_no_more_than_one_request(a: list[float], b: list[float]) -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index, (one, other) in enumerate(zip(a, b, strict=True)):
        queue.push(waiting(f"a{index}", "a", work=one))
        queue.push(waiting(f"b{index}", "b", work=other))
    served: Counter[str] = Counter()
    for _ in range(60):  # neither runs empty: each has 60
        head = serve(queue)
        served[head.key] += head.work  # type: ignore[assignment]
        assert abs(served["a"] - served["b"]) <= LARGEST + 1e-6


@given(st.data())
def test_bands_that_always_wait_share_by_weight(data: st.DataObject) -> None:
    queue: FairQueue[Waiting] = FairQueue()
    work = data.draw(st.floats(1, LARGEST))
    for band in BAND_WEIGHTS:
        for index in range(400):
            queue.push(waiting(f"{band}{index}", band, band, work))
    served: Counter[str] = Counter(serve(queue).band for _ in range(390))
    for band, weight in BAND_WEIGHTS.items():
        assert abs(served[band] - 390 * weight / sum(BAND_WEIGHTS.values())) <= 2


def test_a_key_or_band_alone_gets_everything() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(5):
        queue.push(waiting(str(index), band="flex"))
    assert [serve(queue).rid for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_a_key_that_returns_has_saved_up_no_credit() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(100):
        queue.push(waiting(f"a{index}", "a", work=10))
    for _ in range(50):
        serve(queue)
    for index in range(50):
        queue.push(waiting(f"b{index}", "b", work=10))
    served = Counter(serve(queue).key for _ in range(20))
    assert served["a"] == served["b"] == 10


def test_a_correction_at_settlement_moves_a_key_in_the_order() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(10):
        queue.push(waiting(f"a{index}", "a", work=10))
        queue.push(waiting(f"b{index}", "b", work=10))
    assert [serve(queue).key for _ in range(2)] == ["a", "b"]
    queue.charge(waiting("", "a"), 25)  # its first answer turned out longer
    assert [serve(queue).key for _ in range(3)] == ["b", "b", "b"]
    queue.charge(waiting("", "b"), -40)  # and those were shorter
    assert serve(queue).key == "b"


def test_a_returned_request_goes_first_and_is_not_charged_again() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    queue.push(waiting("lost", "a", "flex", 10))
    lost = serve(queue)
    queue.push(waiting("b", "b", "priority", 10))
    queue.push_returned(lost)
    queue.push(waiting("a", "a", "flex", 10))
    assert serve(queue) is lost
    assert serve(queue).rid == "b"  # flex was charged once, and is ahead of its share already


class QueueMachine(RuleBasedStateMachine):
    """Against a plain dictionary: nothing is lost, nothing is served twice, the oldest is the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Waiting] = FairQueue()
        self.model: dict[str, Waiting] = {}
        self.served: list[Waiting] = []
        self.count = 0

    @rule(
        key=st.sampled_from("abc"),
        band=st.sampled_from(list(BAND_WEIGHTS)),
        work=st.floats(1, LARGEST),
    )
    def push(self, key: str, band: Band, work: float) -> None:
        self.count += 1
        entry = waiting(str(self.count), key, band, work, arrived=self.count)
        self.queue.push(entry)
        self.model[entry.rid] = entry

    @precondition(lambda self: self.model)
    @rule()
    def serve_head(self) -> None:
        head = serve(self.queue)
        assert self.model.pop(head.rid) is head
        self.served.append(head)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        rid = data.draw(st.sampled_from(sorted(self.model)))
        assert self.queue.remove(rid) is self.model.pop(rid)
        assert self.queue.remove(rid) is None

    @precondition(lambda self: self.served)
    @rule()
    def come_back(self) -> None:
        entry = self.served.pop()
        self.queue.push_returned(entry)
        self.model[entry.rid] = entry

    @rule(key=st.sampled_from("abc"), band=st.sampled_from(list(BAND_WEIGHTS)), work=st.floats(-LARGEST, LARGEST))
    def correct(self, key: str, band: Band, work: float) -> None:
        self.queue.charge(waiting("", key, band), work)

    @invariant()
    def agrees(self) -> None:
        assert len(self.queue) == len(self.model)
        assert abs(self.queue.work + self.queue.returned_work - sum(entry.work for entry in self.model.values())) < 1e-6
        assert (self.queue.head() is None) == (not self.model)
        oldest = self.queue.oldest()
        expected = min(self.model.values(), key=lambda entry: entry.arrived, default=None)
        assert oldest is expected


TestQueueMachine = QueueMachine.TestCase
