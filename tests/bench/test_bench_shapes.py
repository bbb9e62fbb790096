"""The plan of a profile: what is measured, in which order, for how long."""

from __future__ import annotations

import pytest

from headrace.bench.shapes import (
    FULL_MENU,
    MOST_TURNS,
    QUICK_MENU,
    REFERENCE,
    Block,
    Menu,
    Plan,
    Shape,
    steady_seconds,
)

SECONDS = {shape: shape.tokens / 100 for shape in {*FULL_MENU.all, *QUICK_MENU.all}}


def follow(plan: Plan, now_s: float = 0.0) -> list[Block]:
    """All blocks, each taking what ``SECONDS`` says."""
    blocks: list[Block] = []
    while (block := plan.block(len(blocks), now_s)) is not None:
        blocks.append(block)
        for _ in range(block.measured):
            plan.took(block.shape, SECONDS[block.shape])
        now_s += block.completions * SECONDS[block.shape]
    return blocks


@pytest.mark.parametrize("menu", [QUICK_MENU, FULL_MENU])
def test_the_held_out_shape_is_not_fitted_and_the_reference_is(menu: Menu) -> None:
    assert menu.held_out not in menu.fitted
    assert REFERENCE in menu.fitted
    assert len(menu.fitted) >= 5


def test_the_first_round_holds_every_shape_even_when_there_is_no_time() -> None:
    blocks = follow(Plan(QUICK_MENU.all, slots=1, seed=1, until_s=0))
    assert sorted(block.shape for block in blocks) == sorted(QUICK_MENU.all)
    assert all(block.measured == 1 for block in blocks)


def test_no_later_round_begins_what_would_end_too_late() -> None:
    until_s = 200
    blocks = follow(Plan(QUICK_MENU.all, slots=1, seed=1, until_s=until_s))
    first_round_s = sum(SECONDS[shape] for shape in QUICK_MENU.all)
    total_s = sum(block.completions * SECONDS[block.shape] for block in blocks)
    assert first_round_s < total_s <= until_s


def test_time_that_is_left_goes_to_the_reference_first() -> None:
    first_round_s = sum(SECONDS[shape] for shape in QUICK_MENU.all)
    blocks = follow(Plan(QUICK_MENU.all, slots=1, seed=1, until_s=first_round_s + SECONDS[REFERENCE] + 0.1))
    assert sum(block.shape == REFERENCE for block in blocks) == 2


def test_shapes_that_are_quick_get_more_turns_within_bounds() -> None:
    plan = Plan((REFERENCE, Shape(8, 1)), slots=1, seed=1, until_s=1e9, most_rounds=2)
    plan.took(Shape(8, 1), 1e-6)
    plan.took(REFERENCE, 20.0)
    turns = {block.shape: block.measured for block in (plan.block(0, 0), plan.block(1, 0)) if block}
    assert turns == {Shape(8, 1): MOST_TURNS, REFERENCE: 1}


def test_all_who_ask_are_given_the_same_block() -> None:
    plan = Plan(FULL_MENU.all, slots=1, seed=4, until_s=0)
    assert [plan.block(n, 0) for n in range(9)] == [plan.block(n, 1e6) for n in range(9)]
    assert plan.block(99, 0) is None


def test_the_order_is_random_by_seed() -> None:
    orders = {tuple(b.shape for b in follow(Plan(FULL_MENU.all, slots=1, seed=seed, until_s=0))) for seed in range(8)}
    assert len(orders) > 1
    again = [follow(Plan(FULL_MENU.all, slots=1, seed=5, until_s=0)) for _ in range(2)]
    assert again[0] == again[1]


def test_with_one_slot_every_completion_is_a_sample_from_the_first_sending_on() -> None:
    block = Block(shape=REFERENCE, ramp=0, measured=3)
    assert steady_seconds(10.0, [12.0, 13.0, 17.0], block) == [2.0, 1.0, 4.0]


def test_with_many_slots_ramp_and_drain_are_left_out_and_the_window_is_one_sample() -> None:
    block = Block(shape=REFERENCE, ramp=2, measured=4)
    ends = [5.0, 6.0, 7.0, 9.0, 11.0, 13.0]
    assert steady_seconds(0.0, ends, block) == [(6.0 / 4 + 7.0 / 4) / 2]
    assert steady_seconds(-9.0, [*ends, 99.0], block) == steady_seconds(0.0, ends, block)


def test_with_many_slots_a_window_holds_several_whole_turns() -> None:
    block = Plan((REFERENCE,), slots=4, seed=1, until_s=0).block(0, 0)
    assert block is not None
    assert block.ramp == 4
    assert block.measured % 4 == 0 and block.measured >= 12
