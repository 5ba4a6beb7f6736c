"""A run that did too little fails, whatever its checker says."""

from chaos.enough import GRANTS, LEAST, NOT_WITH_STEPS, OF_THE_END, shortfalls
from chaos.planning import make_plan

PLANS = [make_plan(seed, 60) for seed in range(20)]
MINUTE = next(plan for plan in PLANS if not plan.steps_clock)
WITH_STEPS = next(plan for plan in PLANS if plan.steps_clock)
OF_A_MINUTE = [rule for rule, least in LEAST.items() if least >= 1]
NOTHING = dict.fromkeys(LEAST, 0)


def test_a_run_that_did_enough_lacks_nothing() -> None:
    assert list(shortfalls(MINUTE, GRANTS, LEAST)) == []


def test_a_farm_that_grants_next_to_nothing_is_named() -> None:
    (line,) = shortfalls(MINUTE, 3, LEAST)
    assert line == f"too little: 3 grants, and a run of this length has {GRANTS} at least"


def test_each_rule_that_compared_too_little_is_named() -> None:
    lines = list(shortfalls(MINUTE, GRANTS, NOTHING))
    assert len(lines) == len(OF_A_MINUTE)
    for rule, line in zip(OF_A_MINUTE, lines, strict=True):
        assert f"'{rule}' compared 0" in line


def test_of_less_than_a_minute_nothing_is_demanded() -> None:
    assert list(shortfalls(make_plan(7, 59), 0, NOTHING)) == []


def test_rules_that_leave_out_runs_with_steps_of_the_clock_need_compare_nothing_there() -> None:
    lines = "\n".join(shortfalls(WITH_STEPS, GRANTS, NOTHING))
    assert all((f"'{rule}'" in lines) == (rule not in NOT_WITH_STEPS) for rule in OF_A_MINUTE)


def test_a_longer_run_should_do_more() -> None:
    three_minutes = make_plan(MINUTE.seed, 180)
    lines = list(shortfalls(three_minutes, 2 * GRANTS, {rule: 2 * least for rule, least in LEAST.items()}))
    assert f"has {3 * GRANTS} at least" in lines[0]
    assert len(lines) == 1 + len(OF_A_MINUTE) - len(OF_THE_END)
    enough = {rule: 3 * least for rule, least in LEAST.items()}
    assert list(shortfalls(three_minutes, 3 * GRANTS, enough)) == []


def test_a_search_of_ten_minutes_compares_waits_in_order() -> None:
    ten_minutes = make_plan(MINUTE.seed, 600)
    compared = {rule: int(10 * least) for rule, least in LEAST.items()}
    assert list(shortfalls(ten_minutes, 10 * GRANTS, compared)) == []
    (line,) = shortfalls(ten_minutes, 10 * GRANTS, {**compared, "waits in order": 1})
    assert "'waits in order' compared 1, and it should compare 2 at least" in line
