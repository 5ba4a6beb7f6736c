"""A run that did too little fails, whatever its checker says."""

from collections import Counter

from chaos.enough import GRANTS, LEAST, WITHOUT_STEPS, shortfalls
from chaos.planning import make_plan

MINUTE = make_plan(7, 60)


def test_a_run_that_did_enough_lacks_nothing() -> None:
    assert list(shortfalls(MINUTE, GRANTS, LEAST)) == []


def test_a_farm_that_grants_next_to_nothing_is_named() -> None:
    (line,) = shortfalls(MINUTE, 3, LEAST)
    assert line == f"too little: 3 grants, and a run has {GRANTS} at least"


def test_each_rule_that_compared_too_little_is_named() -> None:
    lines = list(shortfalls(MINUTE, GRANTS, dict.fromkeys(LEAST, 0)))
    assert len(lines) == len(LEAST)
    for rule, line in zip(LEAST, lines, strict=True):
        assert f"'{rule}' compared 0" in line


def test_some_rules_compare_only_while_the_clock_goes_on() -> None:
    without_steps = make_plan(1, 60)
    assert MINUTE.steps_clock
    assert not without_steps.steps_clock
    assert len(list(shortfalls(without_steps, GRANTS, Counter(LEAST)))) == len(WITHOUT_STEPS)
    assert list(shortfalls(without_steps, GRANTS, {**LEAST, **WITHOUT_STEPS})) == []


def test_of_less_than_a_minute_nothing_is_demanded() -> None:
    assert list(shortfalls(make_plan(7, 59), 0, dict.fromkeys(LEAST, 0))) == []
