"""The seed of a chaos run decides its plan."""

from itertools import accumulate, pairwise

from chaos.fault_lanes import BETWEEN_STEPS, LANES, LASTING, QUIET_FOR, draw_faults
from chaos.history import CLOCK_STEP
from chaos.plan import CLOCK_LANE, PROCESSES, PlannedFault
from chaos.planning import LONGEST_SCRIPT, make_plan


def test_the_same_seed_gives_the_same_plan() -> None:
    assert make_plan(7, 60) == make_plan(7, 60)


def test_another_seed_gives_another_plan() -> None:
    one, other = make_plan(7, 60), make_plan(8, 60)
    assert one.faults != other.faults
    assert one.runners["runner-1"] != other.runners["runner-1"]


def test_no_two_clients_do_the_same() -> None:
    scripts = [str(script) for script in make_plan(7, 60).runners.values()]
    assert len(set(scripts)) == len(scripts)


def test_some_keys_are_posted_to_two_replicas_at_once() -> None:
    steps = [step for script in make_plan(7, 60).runners.values() for step in script]
    assert {step.has_key for step in steps if step.asks_twice} == {True}
    assert {step.asks_twice for step in steps if step.has_key} == {True, False}


def test_faults_come_in_the_order_of_their_times_and_within_the_run() -> None:
    for faults in make_plan(7, 60).faults.values():
        times = [fault.at for fault in faults]
        assert times == sorted(times)
        assert all(0 < at < 60 for at in times)


def test_an_hour_has_every_kind_of_fault_at_every_process() -> None:
    plan = make_plan(7, 3_600)
    for lane, (kinds, _) in LANES.items():
        expected = {(kind, target) for kind, (_, targets, _) in kinds.items() for target in targets}
        assert {(fault.kind, fault.target) for fault in plan.faults[lane]} == expected
    assert {fault.target for fault in plan.faults["processes"]} == set(PROCESSES)


def test_some_seeds_step_the_clock_and_some_do_not() -> None:
    assert {CLOCK_LANE in make_plan(seed, 60).faults for seed in range(8)} == {True, False}


def test_steps_of_the_clock_are_far_apart() -> None:
    for seed in range(8):
        times = [step.at for step in draw_faults(seed, 600).get(CLOCK_LANE, [])]
        assert all(later - at >= BETWEEN_STEPS[0] for at, later in pairwise(times))


def test_each_minute_has_a_stretch_without_faults() -> None:
    for seed in range(8):
        faults = [fault for lane in draw_faults(seed, 300).values() for fault in lane]
        for minute in range(0, 300, 60):
            within = sorted(
                (fault.at, fault.at + lasts(fault)) for fault in faults if minute <= fault.at < minute + 60
            )
            ends = list(accumulate((end for _, end in within), max))
            assert any(
                begin - end > QUIET_FOR - 0.02 for (begin, _), end in zip(within[1:], ends, strict=False)
            )


def lasts(fault: PlannedFault) -> float:
    return 0.0 if fault.kind == CLOCK_STEP else LASTING.get(fault.kind, fault.seconds)


def test_the_plan_of_an_hour_stays_small() -> None:
    plan = make_plan(7, 3_600)
    for scripts in (plan.runners, plan.keepers, plan.leads, plan.administrators, plan.readers):
        assert {len(script) for script in scripts.values()} == {LONGEST_SCRIPT}
