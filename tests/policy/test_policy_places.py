"""Who holds the most places, against a plain count."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.places import Places


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=100))
def test_the_most_is_known_after_every_change(steps: list[tuple[str, bool]]) -> None:
    places, model = Places(), Counter[str]()
    for member, take in steps:
        if take:
            places.take(member)
            model[member] += 1
        elif model[member]:
            places.give(member)
            model[member] -= 1
        assert [places.held(member) for member in "abcd"] == [model[member] for member in "abcd"]
        most = places.most()
        if not any(model.values()):
            assert most is None
        else:
            assert most is not None
            assert most == (most[0], max(model.values()))
            assert model[most[0]] == most[1]


def test_nobody_gives_what_it_does_not_hold() -> None:
    with pytest.raises(KeyError):
        Places().give("a")
