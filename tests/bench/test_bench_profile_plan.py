"""The plan of a profile: what is measured, in which order, for how long."""

from __future__ import annotations

import pytest

from headrace.bench.profiling.plan import MOST_TURNS, Block, Plan, sized
from headrace.bench.profiling.shapes import REFERENCE, Case, Menu, Shape, full_menu, quick_menu

FULL_MENU = full_menu(slots=1, context=4096, caches=True)
QUICK_MENU = quick_menu(slots=1, caches=True)
CASES = QUICK_MENU.cases(1)
AT_ONE = Case(REFERENCE, 1)


def seconds(case: Case) -> float:
    return case.shape.tokens / 100


def follow(plan: Plan, now_s: float = 0.0, *, disturbed: frozenset[Case] = frozenset()) -> list[Block]:
    """All blocks; those of ``disturbed`` cases are disturbed."""
    blocks: list[Block] = []
    while (block := plan.block(len(blocks), now_s)) is not None:
        blocks.append(block)
        plan.took(block.case, seconds(block.case), disturbed=block.case in disturbed)
        now_s += block.completions * seconds(block.case)
    return blocks


@pytest.mark.parametrize("menu", [QUICK_MENU, FULL_MENU])
def test_held_out_shapes_are_not_fitted_and_the_reference_is(menu: Menu) -> None:
    fitted = {*menu.fitted, menu.cached, *(case.shape for case in menu.iterations)}
    assert not fitted & set(menu.held_out)
    assert REFERENCE in menu.fitted


def test_what_the_weights_are_fitted_to_lies_around_the_reference() -> None:
    for shape in FULL_MENU.fitted:
        assert shape.input_tokens <= 24 * shape.output_tokens


def test_the_mixes_that_a_full_profile_must_predict_are_never_measured_for_a_fit() -> None:
    assert FULL_MENU.held_out == (Shape(1024, 128), Shape(128, 64))


def test_iterations_are_measured_with_one_in_flight_with_k_and_between() -> None:
    in_flight = {case.in_flight for case in full_menu(slots=16, context=4096, caches=False).iterations}
    assert in_flight == {1, 4, 16}


def test_without_a_cache_nothing_cached_is_asked_for() -> None:
    cases = full_menu(slots=1, context=4096, caches=False).cases(1)
    assert not any(case.shape.cached_tokens for case in cases)


def test_the_first_round_holds_every_case_even_when_there_is_no_time() -> None:
    blocks = follow(Plan(CASES, seed=1, until_s=0))
    assert sorted(block.case for block in blocks) == sorted(CASES)


def test_no_later_round_begins_what_would_end_too_late() -> None:
    first_round_s = sum(sized(case, float("inf")).completions * seconds(case) for case in CASES)
    until_s = 3 * first_round_s
    total_s = sum(block.completions * seconds(block.case) for block in follow(Plan(CASES, seed=1, until_s=until_s)))
    assert first_round_s < total_s <= until_s


def test_a_case_that_others_disturbed_comes_before_all_others() -> None:
    unlucky = Case(Shape(640, 96), 1)
    plan = Plan(CASES, seed=1, until_s=0)
    follow(plan, disturbed=frozenset({unlucky}))
    assert plan.next_case == unlucky


def test_time_that_is_left_goes_to_the_reference_first_when_all_were_measured_alike() -> None:
    plan = Plan(CASES, seed=1, until_s=0)
    follow(plan)
    assert plan.next_case == AT_ONE


def test_shapes_that_are_quick_get_more_turns_within_bounds() -> None:
    quick = Case(Shape(8, 1), 1)
    assert sized(quick, 1e-6).measured == MOST_TURNS
    assert sized(AT_ONE, 20.0).measured == 1
    assert sized(quick, 0.1).measured == 10


def test_all_who_ask_are_given_the_same_block() -> None:
    plan = Plan(CASES, seed=4, until_s=0)
    count = len(CASES) + 2
    assert [plan.block(n, 0) for n in range(count)] == [plan.block(n, 1e6) for n in range(count)]
    assert plan.block(99, 0) is None


def test_the_order_is_random_by_seed() -> None:
    orders = {tuple(b.case for b in follow(Plan(CASES, seed=seed, until_s=0))) for seed in range(8)}
    assert len(orders) > 1
    again = [follow(Plan(CASES, seed=5, until_s=0)) for _ in range(2)]
    assert again[0] == again[1]


def test_a_plan_ends_when_every_case_is_known_precisely_and_not_before_four_rounds() -> None:
    blocks = follow(Plan([AT_ONE], seed=0, until_s=1e9))
    assert len(blocks) == 4


def test_with_one_in_flight_a_block_is_measured_from_its_beginning() -> None:
    assert Block(AT_ONE, skipped=0, measured=3).windows() == [(0, 3)]


def test_with_many_in_flight_ramp_and_drain_are_left_out() -> None:
    block = Block(Case(REFERENCE, 2), skipped=2, measured=4)
    assert block.windows() == [(1, 5), (2, 6)]
    assert block.completions == 6


def test_requests_that_fill_the_cache_are_not_measured() -> None:
    shape = Shape(576, 32, cached_tokens=512)
    assert sized(Case(shape, 1), 1.0).windows() == [(1, 4)]
    block = sized(Case(shape, 2), 1.0)
    assert (block.cold, block.skipped, block.windows()[0][0]) == (2, 4, 3)


def test_with_many_in_flight_a_window_holds_several_whole_turns() -> None:
    block = sized(Case(REFERENCE, 4), 5.0)
    assert block.skipped == 4
    assert block.measured % 4 == 0 and block.measured >= 12
