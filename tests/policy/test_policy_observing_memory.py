"""An observer that is restored from its memory sees what the one before would have seen."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.observing import Bought, Chunks, Counted, Memory, Observer
from headrace.policy.scaling import Knobs

BOUGHT = Bought(chunk=100.0, slots=2, min_chunks=1, max_chunks=4)
CHUNKS = Chunks(ready=1, pending=0, draining=0)

reports = st.builds(
    Counted,
    arrivals=st.integers(0, 1000),
    offered_work=st.floats(0, 1e6),
    queued=st.integers(0, 9),
    queued_work=st.floats(0, 1e4),
    oldest_wait_s=st.floats(0, 60),
    in_flight=st.integers(0, 9),
)
steps = st.lists(st.tuples(st.floats(0.01, 20), st.sampled_from("ab"), st.none() | reports), max_size=30)


def follow(observer: Observer, now: float, told: list[tuple[float, str, Counted | None]]) -> tuple[list[object], float]:
    looks: list[object] = []
    for gap, gateway, report in told:
        now += gap
        if report is None:
            looks.append(
                observer.observe(now, BOUGHT, CHUNKS, Knobs(), connected=[gateway], metrics_age_s=0.5),
            )
        else:
            observer.report(now, gateway, report)
    return looks, now


@given(before=steps, after=steps)
def test_at_any_moment_and_through_json(
    before: list[tuple[float, str, Counted | None]], after: list[tuple[float, str, Counted | None]]
) -> None:
    observer = Observer(5.0)
    _, now = follow(observer, 5.0, before)
    text = msgspec.json.encode(observer.memory())
    restored = Observer.restored(msgspec.json.decode(text, type=Memory))
    assert follow(restored, now, after) == follow(observer, now, after)
