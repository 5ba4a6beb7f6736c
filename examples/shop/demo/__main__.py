"""`make demo`: a suite with an account for each test, and with one account for all; then accounts that break."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from demo import healing
from demo.figures import Farm, Spread
from demo.processes import DemoError, signals_end_the_demo
from demo.stage import Stage, set_stage
from demo.suite import Outcome, run_suite

PROJECT, ACCOUNTS, WORKERS = "webshop", 12, 16
COLORS: dict[healing.End, str] = {
    "passed": "green",
    "could not sign in": "yellow",
    "met a full cart": "red",
    "got no account": "red",
}

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    signals_end_the_demo()
    try:
        with tempfile.TemporaryDirectory(prefix="botfarm-demo-") as name:
            folder = Path(name)
            console.print(
                f"Starting a shop with {ACCOUNTS} accounts, and a farm that leases them ...", style="dim"
            )
            with set_stage(folder, accounts=ACCOUNTS + 2 * healing.ACCOUNTS) as stage:
                stage.add_project(PROJECT, stage.accounts[:ACCOUNTS])
                leased = with_the_farm(stage, folder)
                shared = with_one_account(stage, folder)
                unkept, kept = with_broken_accounts(stage)
    except KeyboardInterrupt:
        return 130
    except DemoError as error:
        console.print(f"The demo could not run: {error}", markup=False)
        return 1
    return verdict(leased, shared, unkept, kept)


def with_the_farm(stage: Stage, folder: Path) -> Outcome:
    farm = Farm(stage.farm_url, stage.token, project=PROJECT)
    console.print(
        f"\n[bold]Each test leases an account of its own[/]  (pytest -n {WORKERS}, fixture botfarm_user)"
    )
    with farm.watched():
        outcome = run_suite(stage, folder, workers=WORKERS, variables=stage.of_the_farm)
    figures = farm.figures()
    show_tests(outcome)
    show("leases", f"{figures.leases} of {figures.users} accounts, {figures.most_leased} at once")
    show("waited", f"{spread(figures.waited)}, {figures.most_waiting} in line at most")
    show("held", spread(figures.held))
    show_thrown_out(outcome)
    return outcome


def with_one_account(stage: Stage, folder: Path) -> Outcome:
    account = json.loads(stage.accounts[0])
    console.print(
        "\n[bold]All tests share one account[/]  (the same suite, SHOP_LOGIN from the CI's settings)"
    )
    shared = {"SHOP_LOGIN": account["login"], "SHOP_PASSWORD": account["password"]}
    outcome = run_suite(stage, folder, workers=WORKERS, variables=shared)
    show_tests(outcome)
    for reason, times in outcome.reasons.most_common(1):
        show("most often", f"{times} x {reason}")
    show_thrown_out(outcome)
    return outcome


def with_broken_accounts(stage: Stage) -> tuple[healing.Outcome, healing.Outcome]:
    console.print(
        f"\n[bold]Tests break accounts[/]  ({healing.RUNS} runs in each of two projects: every "
        f"{healing.CART_EVERY}th leaves a full cart,\n{healing.PASSWORDS} change the password and do not say so)"
    )
    unkept, kept = healing.both_projects(stage, stage.accounts[ACCOUNTS:])
    for name, outcome in (("no keeper", unkept), ("a keeper", kept)):
        show(name, runs(outcome))
        show(
            "",
            f"[bold]{sparkline(outcome.in_service)}[/]  {outcome.in_service[-1]} of {healing.ACCOUNTS} in service",
        )
    show("healed", f"{kept.healed} times, by python -m keeper")
    return unkept, kept


def verdict(leased: Outcome, shared: Outcome, unkept: healing.Outcome, kept: healing.Outcome) -> int:
    is_right = leased.passed and not leased.failed and not leased.thrown_out and shared.failed
    if is_right and unkept.runs_dry and kept.stays_healthy:
        console.print(
            "\n[bold green]Nobody got in anybody's way, until they shared. Kept accounts last.[/]\n"
        )
        return 0
    console.print("\n[bold red]That is not what this demo is to show.[/]\n")
    return 1


def runs(outcome: healing.Outcome) -> str:
    return ", ".join(f"[{COLORS[end]}]{outcome.ends[end]} {end}[/]" for end in COLORS if outcome.ends[end])


def sparkline(in_service: Sequence[int]) -> str:
    return "".join("·▁▂▃▄▅▆▇█"[number] for number in in_service)


def show_tests(outcome: Outcome) -> None:
    passed = f"[green]{outcome.passed} passed[/]"
    failed = f"[red]{outcome.failed} failed[/], " if outcome.failed else ""
    show("tests", f"{failed}{passed} in {outcome.seconds:.0f} s")


def show_thrown_out(outcome: Outcome) -> None:
    color = "red" if outcome.thrown_out else "green"
    show("thrown out", f"[{color}]{outcome.thrown_out} sessions[/] by somebody else's sign-in")


def show(name: str, text: str) -> None:
    console.print(f"  [cyan]{name:<12}[/]{text}")


def spread(seconds: Spread) -> str:
    return f"median {seconds.median:.1f} s, 95 % under {seconds.most:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
