"""The fair queue: shares between bands and keys, and a queue that stays right whatever leaves it.

The bounds are those of Sheng et al., "Fairness in Serving Large Language Models" (arXiv 2401.00588, theorem 4.4 and its
weighted form): the service of two members that always wait, in work / weight, differs by at most U at any time since
they wait, and so by at most 2U over any stretch. Where a request's work is known when it is served, U is one request;
where it is estimated and corrected later, U is what may be in flight at once.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.policy.queueing import BAND_WEIGHTS, Band, FairQueue, Waiting

LARGEST = 100.0
ROUNDING = 1e-6


def waiting(rid: str, key: str = "k", band: Band = "default", work: float = 1.0, **more: float) -> Waiting:
    return Waiting(
        rid=rid, key=key, band=band, work=work, arrived=more.get("arrived", 0.0), weight=more.get("weight", 1.0)
    )


def serve(queue: FairQueue[Waiting]) -> Waiting:
    head = queue.head()
    assert head is not None
    queue.serve(head)
    return head


works = st.floats(1, LARGEST)
weights = st.sampled_from([0.25, 1.0, 2.0, 10.0])


class Clients:
    """Keys ``f`` and ``g`` that always have requests waiting, and others that come and go."""

    def __init__(self, weight: dict[str, float]) -> None:
        self.queue: FairQueue[Waiting] = FairQueue()
        self.weight = weight
        self.service = dict.fromkeys(weight, 0.0)  # in work / weight, as charged
        self.in_flight: list[tuple[Waiting, float]] = []  # with what was charged
        self.count = 0
        for key in "fg":
            self.ask(key, 1.0)
            self.ask(key, LARGEST)

    def ask(self, key: str, work: float) -> None:
        self.count += 1
        self.queue.push(waiting(str(self.count), key, work=work, arrived=self.count, weight=self.weight[key]))

    def serve(self, next_work: float) -> None:
        entry = serve(self.queue)
        self.service[entry.key] += entry.work / entry.weight
        self.in_flight.append((entry, entry.work))
        if entry.key in "fg":
            self.ask(entry.key, next_work)

    def settle(self, index: int, exact: float) -> None:
        entry, charged = self.in_flight.pop(index % len(self.in_flight))
        self.queue.charge(entry, exact - charged)
        self.service[entry.key] += (exact - charged) / entry.weight

    def lead(self) -> float:
        return self.service["f"] - self.service["g"]


steps = st.lists(st.tuples(st.sampled_from("sssfhl"), works, works), min_size=20, max_size=120)


@settings(deadline=None)
@given(weights, weights, weights, steps)
def test_keys_that_always_wait_differ_by_no_more_than_one_request(
    weight_f: float, weight_g: float, weight_h: float, steps: list[tuple[str, float, float]]
) -> None:
    clients = Clients({"f": weight_f, "g": weight_g, "h": weight_h})
    leads = [clients.lead()]
    for step, work, _ in steps:
        if step == "h":
            clients.ask("h", work)
        else:
            clients.serve(work)
        leads.append(clients.lead())
    assert -LARGEST / weight_g - ROUNDING <= min(leads)
    assert max(leads) <= LARGEST / weight_f + ROUNDING
    # So over any stretch, from the lowest lead to the highest:
    assert max(leads) - min(leads) <= 2 * LARGEST / min(weight_f, weight_g) + ROUNDING


@settings(deadline=None)
@given(weights, weights, st.integers(1, 6), steps)
def test_keys_that_always_wait_differ_by_no_more_than_what_is_in_flight_where_work_is_estimated(
    weight_f: float, weight_g: float, slots: int, steps: list[tuple[str, float, float]]
) -> None:
    clients = Clients({"f": weight_f, "g": weight_g, "h": 1.0})
    bound = slots * LARGEST / min(weight_f, weight_g) + ROUNDING
    for number, (step, work, exact) in enumerate(steps):
        if step == "h":
            clients.ask("h", work)
        elif step == "s" and len(clients.in_flight) < slots:
            clients.serve(work)
        elif clients.in_flight:
            clients.settle(number, exact)
        assert abs(clients.lead()) <= bound


@settings(deadline=None)
@given(weights, weights, steps)
def test_a_key_that_comes_and_goes_gets_no_more_than_one_that_always_waits(
    weight_f: float, weight_h: float, steps: list[tuple[str, float, float]]
) -> None:
    """It is lifted when it comes back: what it did not use while it was away, it cannot use later."""
    clients = Clients({"f": weight_f, "g": 1.0, "h": weight_h})
    bound = LARGEST / weight_f + LARGEST / weight_h + ROUNDING
    lowest = 0.0
    for step, work, _ in steps:
        if step in "hl":
            clients.ask("h", work)
        else:
            clients.serve(work)
        lead = clients.service["h"] - clients.service["f"]
        lowest = min(lowest, lead)
        assert lead - lowest <= bound  # over every stretch that ends here


@settings(deadline=None)
@given(st.lists(works, min_size=200, max_size=200))
def test_bands_that_always_wait_share_by_weight(sizes: list[float]) -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for band in BAND_WEIGHTS:
        for index, work in enumerate(sizes):
            queue.push(waiting(f"{band}{index}", "k", band, work))
    service = dict.fromkeys(BAND_WEIGHTS, 0.0)
    for _ in range(200):  # none runs empty
        entry = serve(queue)
        service[entry.band] += entry.work / BAND_WEIGHTS[entry.band]
        for first, other in pairwise([*BAND_WEIGHTS, "priority"]):
            smaller = min(BAND_WEIGHTS[first], BAND_WEIGHTS[other])  # type: ignore[index]
            assert abs(service[first] - service[other]) <= LARGEST / smaller + ROUNDING  # type: ignore[index]


def test_bands_share_eight_to_four_to_one() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for band in BAND_WEIGHTS:
        for index in range(400):
            queue.push(waiting(f"{band}{index}", band, band))
    assert Counter(serve(queue).band for _ in range(390)) == {"priority": 240, "default": 120, "flex": 30}


def test_keys_of_a_band_share_by_their_weights() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(100):
        queue.push(waiting(f"a{index}", "a", weight=3.0))
        queue.push(waiting(f"b{index}", "b", weight=1.0))
    assert Counter(serve(queue).key for _ in range(80)) == {"a": 60, "b": 20}


def test_a_key_or_band_alone_gets_everything() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(5):
        queue.push(waiting(str(index), band="flex", weight=0.1))
    assert [serve(queue).rid for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_a_key_that_was_served_alone_is_behind_one_that_comes_new() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(3):
        queue.push(waiting(f"a{index}", "a", work=10))
        serve(queue)
    queue.push(waiting("b0", "b", work=10))
    assert serve(queue).key == "b"  # lifted to a's counter, and charged
    queue.push(waiting("a3", "a", work=10))
    queue.push(waiting("b1", "b", work=10))
    assert serve(queue).key == "a"


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
    assert (queue.work, queue.returned_work) == (20, 10)
    assert serve(queue) is lost
    assert serve(queue).rid == "b"  # flex was charged once, and is ahead of its share already


def test_a_returned_request_is_charged_to_its_key_once() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for key in "ab":
        queue.push(waiting(f"{key}0", key, work=10))
    lost = serve(queue)
    assert (lost.key, serve(queue).key) == ("a", "b")
    queue.push_returned(lost)
    for key in "ab":
        queue.push(waiting(f"{key}1", key, work=10))
    assert [serve(queue).rid for _ in range(3)] == ["a0", "a1", "b1"]  # a has had no more than b


def test_a_returned_request_may_be_younger_than_one_that_waits() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    old = waiting("old", arrived=1.0)
    queue.push(old)
    queue.push_returned(waiting("young", arrived=2.0))
    assert queue.oldest() is old
    assert serve(queue).rid == "young"


def test_weights_count_also_for_keys_that_are_served_at_once() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    queue.charge(waiting("", "light"), 100.0)  # an answer turned out long
    queue.push(waiting("heavy 0", "heavy", work=160.0, weight=4.0))
    serve(queue)
    for number in (1, 2):
        queue.push(waiting(f"heavy {number}", "heavy", work=160.0, weight=4.0))
    queue.push(waiting("light 1", "light"))
    assert [serve(queue).rid for _ in range(3)] == ["heavy 1", "heavy 2", "light 1"]  # at 40 and 80 against 100


def test_of_several_returned_the_oldest_goes_first() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for rid, arrived in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        queue.push_returned(waiting(rid, arrived=arrived))
    assert [serve(queue).rid for _ in range(3)] == ["a", "b", "c"]


def test_a_full_queue_takes_the_place_from_whoever_holds_the_most() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(6):
        queue.push(waiting(f"a{index}", "a"))
    queue.push(waiting("b0", "b"))
    displaced = []
    for index in range(1, 6):
        newcomer = waiting(f"b{index}", "b")
        loser = queue.displaced_by(newcomer)
        if loser is None:
            break
        queue.remove(loser.rid)
        displaced.append(loser.rid)
        queue.push(newcomer)
    assert displaced == ["a5", "a4"]  # the newest, until b would hold more than a
    assert (queue.waiting("default", "a"), queue.waiting("default", "b")) == (4, 3)
    assert queue.displaced_by(waiting("a6", "a")) is None  # nobody displaces its own


def test_places_are_shared_between_bands_by_weight() -> None:
    queue: FairQueue[Waiting] = FairQueue()
    for index in range(80):
        queue.push(waiting(f"p{index}", "p", "priority"))
    for index in range(10):
        queue.push(waiting(f"f{index}", "f", "flex"))
    assert queue.displaced_by(waiting("f", "f", "flex")) is None  # 80 of priority claim no more than 10 of flex
    queue.push(waiting("f10", "f", "flex"))
    loser = queue.displaced_by(waiting("p", "p", "priority"))
    assert loser is not None
    assert loser.rid == "f10"


class QueueMachine(RuleBasedStateMachine):
    """Against a plain dictionary: nothing is lost, nothing is served twice, the oldest is the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Waiting] = FairQueue()
        self.model: dict[str, Waiting] = {}
        self.returned: set[str] = set()
        self.served: list[Waiting] = []
        self.count = 0

    @rule(key=st.sampled_from("abc"), band=st.sampled_from(list(BAND_WEIGHTS)), work=works, weight=weights)
    def push(self, key: str, band: Band, work: float, weight: float) -> None:
        self.count += 1
        entry = waiting(str(self.count), key, band, work, arrived=self.count, weight=weight)
        self.queue.push(entry)
        self.model[entry.rid] = entry

    @precondition(lambda self: self.model)
    @rule()
    def serve_head(self) -> None:
        head = serve(self.queue)
        assert self.model.pop(head.rid) is head
        assert head.rid in self.returned or not self.returned
        self.returned.discard(head.rid)
        self.served.append(head)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        rid = data.draw(st.sampled_from(sorted(self.model)))
        assert self.queue.remove(rid) is self.model.pop(rid)
        assert self.queue.remove(rid) is None
        self.returned.discard(rid)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        entry = self.served.pop(data.draw(st.integers(0, len(self.served) - 1)))
        self.queue.push_returned(entry)
        self.model[entry.rid] = entry
        self.returned.add(entry.rid)

    @rule(key=st.sampled_from("abc"), band=st.sampled_from(list(BAND_WEIGHTS)), work=st.floats(-LARGEST, LARGEST))
    def correct(self, key: str, band: Band, work: float) -> None:
        self.queue.charge(waiting("", key, band), work)

    @invariant()
    def agrees(self) -> None:
        queue, model = self.queue, self.model
        assert len(queue) == len(model)
        assert all(rid in queue for rid in model)
        assert abs(queue.returned_work - sum(model[rid].work for rid in self.returned)) < ROUNDING
        assert abs(queue.work + queue.returned_work - sum(entry.work for entry in model.values())) < ROUNDING
        assert (queue.head() is None) == (not model)
        assert queue.oldest() is min(model.values(), key=lambda entry: entry.arrived, default=None)
        for band in BAND_WEIGHTS:
            for key in "abc":
                new = [e for e in model.values() if (e.band, e.key) == (band, key) and e.rid not in self.returned]
                assert queue.waiting(band, key) == len(new)


TestQueueMachine = QueueMachine.TestCase
