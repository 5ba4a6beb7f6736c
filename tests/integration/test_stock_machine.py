"""Any sequence of operations that keep users healthy, against the model in support/model_health.py.

As test_state_machine.py, which has the rules of leases and says how to search longer: here are chores, holds,
verdicts, changes by hand and in bulk, and a password that changes in two phases while leases expire.
"""

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from botfarm.domain.leases import BLAMELESS, Outcome, Purpose, Reason, Verdict
from botfarm.domain.pools import Pool
from botfarm.domain.projects import Cleaning, ProjectChanges, ProjectPolicy
from botfarm.domain.users import BulkAction, BulkChange, UserChanges, UserFilter, UserLine, UserState
from support.farm import KEEPER, MANAGER, RUNNER
from support.farm_and_model import FarmAndModel
from support.farm_beside_model import World, run_machine
from support.model_users import Said, Wanted

PAUSES = st.sampled_from([0, 0, 0, 0, 0, 101, 401, 1001])
LABELS = {"plan": "paid"}
POLICIES = st.sampled_from(
    [
        ProjectPolicy(
            default_ttl=300, lock_delay=100, cleaning=Cleaning.REQUIRED, quarantine_after=2, check_every=400,
            clean_attempts=2, count_expired=True,
        ),
        ProjectPolicy(
            default_ttl=300, lock_delay=0, cleaning=Cleaning.ON_DIRTY, quarantine_after=1, rotate_every=800,
            login_gap=600, clean_attempts=1,
        ),
        ProjectPolicy(default_ttl=500, max_hold=700, lock_delay=0, rotate_on_release=True, check_every=800),
        ProjectPolicy(default_ttl=300, lock_delay=0, check_every=400, quarantine_after=1, quarantine_share=1),
    ]
)  # fmt: skip
POLICY_CHANGES = st.sampled_from(
    [
        {"cleaning": Cleaning.OFF},
        {"cleaning": Cleaning.ON_DIRTY},
        {"cleaning": Cleaning.REQUIRED},
        {"rotate_on_release": False},
        {"quarantine_after": 1},
        {"quarantine_after": 0},
        {"quarantine_share": 0},
        {"count_expired": True},
        {"login_gap": 300},
        {"clean_attempts": 1},
    ]
)
# Which lease: most often a live one, the newest first, else any.
WHICH = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, -1, -2])
BLAME = st.sampled_from(
    [Reason.CAPTCHA, Reason.CREDENTIAL_REJECTED, Reason.LOCKED_OUT, None, *sorted(BLAMELESS)]
)
SAID = st.one_of(
    st.just(Said()),
    st.builds(Said, st.just(Outcome.DIRTY), st.sampled_from([None, Reason.DATA])),
    st.builds(Said, st.just(Outcome.BROKEN), BLAME),
)
PURPOSES = {Purpose.TEST: RUNNER.name, Purpose.CHORE: KEEPER.name, Purpose.HOLD: MANAGER.name}
FILTERS = st.sampled_from(
    [{}, {"labels": LABELS}, *({"state": state} for state in UserState)],
)


USER = st.integers(0, 6)
OPERATIONS = st.one_of(
    st.tuples(st.just("test"), USER, st.sampled_from([1, 1, 2, 3]), PAUSES),
    st.tuples(st.just("test"), USER, st.just(1), PAUSES),
    st.tuples(st.just("chore"), USER, st.sampled_from([1, 1, 2]), PAUSES),
    st.tuples(st.just("chore"), USER, st.just(1), PAUSES),
    st.tuples(st.just("take_this_user"), USER, st.sampled_from([Purpose.TEST, Purpose.HOLD]), PAUSES),
    st.tuples(st.just("release"), WHICH, SAID, st.none() | SAID, PAUSES),
    st.tuples(st.just("release"), WHICH, SAID, st.none(), PAUSES),
    st.tuples(st.just("renew_or_force"), WHICH, st.booleans()),
    st.tuples(
        st.just("by_hand"),
        USER,
        st.sampled_from(["quarantine", "quarantine", "restore", "restore", "retire", "password"]),
        st.sampled_from([None, 300, 500, 1200]),
        st.sampled_from([None, None, True, False]),
    ),
    st.tuples(st.just("bulk"), st.sampled_from(BulkAction), FILTERS, st.booleans()),
    st.tuples(
        st.just("password"), WHICH, st.sampled_from(["write back", "start", "start again", "set", "confirm"])
    ),
    st.tuples(st.just("the_policy_changes"), POLICY_CHANGES),
    st.tuples(st.just("time_passes"), st.sampled_from([101, 301, 601, 1001, 3601])),
    st.tuples(st.just("reap"), PAUSES),
)


class StockMachine(FarmAndModel):
    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[UUID, str] = {}
        """The password of each user in the system under test."""
        self.passwords = 0
        self.ids: list[UUID] = []

    @initialize(policy=POLICIES)
    def first_users(self, policy: ProjectPolicy) -> None:
        """Five in one pool and two in another; and a lease, so that there is one."""
        project = self.open_project(policy)
        domains = ["regular"] * 5 + ["canary"] * 2
        lines = [
            UserLine(
                n,
                f"user-{n}@shop.test",
                f"first {n}",
                Pool(project, "stage", domain),
                LABELS if n % 2 else {},
            )
            for n, domain in enumerate(domains)
        ]
        self.ids = self.import_all(lines, skip_errors=False)
        self.accounts = {user_id: self.model.users[user_id].password for user_id in self.ids}
        self.test(0, 1, 0)

    @rule(operation=OPERATIONS)
    def step(self, operation: tuple[Any, ...]) -> None:
        """One rule for all, because Hypothesis leaves out some rules in each example, and here all belong together."""
        name, *arguments = operation
        getattr(self, name)(*arguments)

    def the_policy_changes(self, changes: dict[str, Any]) -> None:
        (project,) = self.model.projects
        update = self.services.projects.update(MANAGER, project, ProjectChanges(**changes))
        self.both(lambda: self.model.update_project(project, changes), update)

    # Leases

    def test(self, user: int, count: int, pause: int) -> None:
        self.wait(pause)
        self.acquire(Wanted(RUNNER.name, None, None, self.pools[self.ids[user]], count=count))

    def chore(self, user: int, count: int, pause: int) -> None:
        self.wait(pause)
        wanted = Wanted(
            KEEPER.name, None, None, self.pools[self.ids[user]], count=count, purpose=Purpose.CHORE
        )
        self.acquire(wanted)

    def take_this_user(self, user: int, purpose: Purpose, pause: int) -> None:
        self.wait(pause)
        self.acquire(Wanted(PURPOSES[purpose], None, None, self.ids[user], purpose=purpose))

    def release(self, which: int, of_all: Said, of_first: Said | None, pause: int) -> None:
        self.wait(pause)
        lease = self.lease(which)
        who = self.caller(lease, by_holder=True)
        shown = self.model.shown(self.model.leases[lease])
        apart = {shown[0]: of_first} if of_first and shown else {}
        release = self.services.leases.release(
            who, lease, _verdict(of_all), {each: _verdict(said) for each, said in apart.items()}
        )
        answers = self.both(lambda: self.model.release(who.name, lease, of_all, apart), release)
        if answers:
            self.same_lease(answers[1], answers[0])

    def renew_or_force(self, which: int, by_force: bool) -> None:
        lease = self.lease(which)
        if by_force:
            force = self.services.leases.force_release(MANAGER, lease, reason="stuck")
            assert self.both(lambda: self.model.force_release(lease), force)
            return
        who = self.caller(lease, by_holder=True)
        renew = self.services.leases.renew(who, lease, ttl_seconds=None)
        answers = self.both(lambda: self.model.renew(who.name, lease, None), renew)
        if answers:
            self.same_lease(answers[1], answers[0], reader=who.name)

    def lease(self, which: int) -> UUID:
        all_leases, model = list(self.model.leases), self.model
        live = [each for each in all_leases if not model.ended_by(model.leases[each])]
        chosen = live if live and which >= 0 else all_leases
        self.touched = chosen[-1 - abs(which) % len(chosen)]
        return self.touched

    # By hand

    def by_hand(self, which: int, what: str, ends_in: int | None, clean: bool | None) -> None:
        user = self.ids[which]
        statuses = self.services.user_statuses
        match what:
            case "quarantine":
                until = None if ends_in is None else self.moment(ends_in)
                due = None if ends_in is None else self.model.now + ends_in
                change = statuses.quarantine(MANAGER, user, reason="why", until=until)
                self.changed(partial(self.model.quarantine, user, until=due), change)
            case "restore":
                change = statuses.restore(MANAGER, user, note=None, clean=clean)
                self.changed(partial(self.model.restore, user, clean=clean), change)
            case "retire" if ends_in:
                change = statuses.retire(MANAGER, user, reason="gone")
                self.changed(partial(self.model.retire, user), change)
            case "password":
                new = self.new_password()
                update = self.services.users.update(MANAGER, user, UserChanges(password=new))
                if self.both(lambda: self.model.update_user(user, UserChanges(password=new)), update):
                    self.accounts[user] = new

    def changed(self, model: Callable[[], Any], change: Any) -> None:
        answers = self.both(model, change)
        if answers:
            assert answers[1].state == self.model.state(answers[0])

    def bulk(self, action: BulkAction, chosen: dict[str, Any], dry_run: bool) -> None:
        """Over a filter, while users are leased. Only some are deleted or retired, so that others are left."""
        if action in {BulkAction.DELETE, BulkAction.RETIRE} and not chosen.get("labels"):
            dry_run = True
        labels = {"bulk": "yes"} if action is BulkAction.LABEL else {}
        change = BulkChange(action, "why", labels)
        wanted = UserFilter(**chosen)
        model = copy.deepcopy(self.model) if dry_run else self.model
        ids = [
            user_id
            for user_id, user in model.users.items()
            if wanted.state in {None, model.state(user)} and wanted.labels.items() <= user.labels.items()
        ]
        result = self.world.run(self.services.bulk.change(MANAGER, wanted, change, dry_run=dry_run))
        done, failed = model.bulk(action, ids)
        assert (result.matched, result.done) == (len(ids), done)
        assert {each.id: each.problem for each in result.failed} == failed

    # Passwords

    def password(self, which: int, what: str) -> None:
        """Of the first user of a lease; a keeper may die after each step of a rotation."""
        lease = self.lease(which)
        who, user = self.caller(lease, by_holder=True), self.model.leases[lease].users[0]
        credentials, known = self.services.lease_credentials, self.model.users.get(user)
        pending = known.pending if known else None
        match what:
            case "write back":
                new = self.new_password()
                write = credentials.write_back(who, lease, user, password=new, secrets={})
                if self.both(lambda: self.model.write_back(who.name, lease, user, new), write):
                    self.accounts[user] = new
            case "start" | "start again":
                new = pending if pending and what == "start again" else self.new_password()
                start = credentials.start_rotation(who, lease, user, password=new)
                answers = self.both(lambda: self.model.start_rotation(who.name, lease, user, new), start)
                assert answers is None or answers[0] == answers[1]
            case "set":
                self.accounts[user] = pending or self.accounts[user]
            case "confirm":
                self.accounts[user] = pending or self.accounts[user]
                confirm = credentials.confirm_rotation(who, lease, user)
                answers = self.both(lambda: self.model.confirm_rotation(who.name, lease, user), confirm)
                assert answers is None or answers[0].password == answers[1].password

    def new_password(self) -> str:
        self.passwords += 1
        return f"password {self.passwords}"

    # Time

    def time_passes(self, seconds: int) -> None:
        self.wait(seconds)

    def reap(self, pause: int) -> None:
        self.wait(pause)
        assert self.world.run(self.services.maintenance.reap()) == self.model.reap()

    def moment(self, seconds: int) -> datetime:
        now: datetime = self.world.rows("SELECT clock_timestamp() AS now")[0]["now"]
        return now + timedelta(seconds=seconds)

    @invariant()
    def no_password_is_lost(self) -> None:
        """The one that the system has is the user's password, or its pending one."""
        for row in self.world.rows("SELECT id, password, pending_password FROM users"):
            stored = {
                self.world.opened(row["id"], name, row[name])
                for name in ("password", "pending_password")
                if row[name]
            }
            assert self.accounts[row["id"]] in stored


def _verdict(said: Said) -> Verdict:
    return Verdict(said.outcome, said.reason)


@pytest.mark.timeout(900)  # a failure is made as short as can be, which takes longer than to find it
def test_no_sequence_of_operations_breaks_the_rules_of_healthy_stock(world: World) -> None:
    run_machine(StockMachine, world)
