"""Any sequence of operations, on a real database, against the model of the rules in support/model.py.

No time passes by itself: `time_passes` moves every stored time into the past, which has the same effect.
Durations are multiples of 100 s (and one of 30 s), and each step of time is one second more than such a
multiple. Steps are few enough that nothing is ever decided close to a boundary.

Search longer: `BOTFARM_HYPOTHESIS_EXAMPLES=2000 pytest tests/integration/test_state_machine.py`. To run a
failure again, put the `@reproduce_failure(...)` that it prints on `FarmMachine`.
"""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    multiple,
    precondition,
    rule,
)

from botfarm.domain.pools import Pool
from botfarm.domain.projects import ProjectChanges, ProjectPolicy
from botfarm.domain.users import UserChanges, UserLine
from support.farm import MANAGER, OTHER_RUNNER, RUNNER
from support.farm_and_model import FarmAndModel
from support.farm_beside_model import World, run_machine
from support.model_users import ModelUser, Wanted

# Before an operation; most rules have one, so that time passes in every example.
PAUSES = st.sampled_from([0, 0, 0, 0, 1, 101, 401, 1001])

Kind = tuple[str, str]

KINDS = st.sampled_from([("stage", "regular"), ("prod", "canary")])
LOGINS = st.sampled_from(
    [f"{name}@shop.test" for name in ("ann", "ANN", "bob", "eve", "joe", "kim", "lea", "max")]
)
LABELS = st.sampled_from([{}, {"plan": "paid"}, {"plan": "paid", "language": "fr"}])
PRINCIPALS = st.sampled_from([RUNNER.name, OTHER_RUNNER.name])
BY_HOLDER = st.sampled_from([True, True, True, False])
LAST = st.none()  # in place of a lease, or of a user of it: that of the last step, which is often live
RARELY = st.sampled_from([False, False, False, True])
# What the caller does while it is given a lease.
CALLERS = st.sampled_from(["stays", "stays", "stays", "goes", "comes back"])
WANTED_LABELS = st.sampled_from([(), (), (), (("plan", "paid"),)])
KEYS = st.sampled_from([None, None, "key-1", "key-2", "key-3"])
TTLS = st.sampled_from([None, 100, 400, 86_400])
POLICIES = st.sampled_from(
    [
        ProjectPolicy(default_ttl=300, max_ttl=600, max_hold=900, lock_delay=100, cooldown=0),
        ProjectPolicy(default_ttl=200, max_ttl=500, max_hold=700, lock_delay=0, cooldown=300),
        ProjectPolicy(default_ttl=800, max_ttl=900, max_hold=400, lock_delay=200, cooldown=100),
    ]
)
POLICY_CHANGES = st.sampled_from(
    [
        {"default_ttl": 500},
        {"max_ttl": 200},
        {"max_hold": 300},
        {"cooldown": 200},
        {"lock_delay": 0},
    ]
)
USER_CHANGES = st.one_of(
    st.builds(UserChanges, login=LOGINS),
    st.builds(UserChanges, password=st.just("a new password")),
    st.builds(UserChanges, labels=st.sampled_from([{"plan": "paid"}, {"plan": None}])),
    st.builds(UserChanges, env=st.sampled_from(["stage", "prod"]), domain=st.none() | st.just("canary")),
)


class FarmMachine(FarmAndModel):
    projects = Bundle("projects")
    users = Bundle("users")
    leases = Bundle("leases")

    # The stock

    @initialize(target=projects, policy=POLICIES)
    def first_project(self, policy: ProjectPolicy) -> UUID:
        return self.open_project(policy)

    @initialize(target=users, project=projects, number=st.sampled_from([1, 2, 3, 5]), labels=LABELS)
    def first_users(self, project: UUID, number: int, labels: dict[str, str]) -> Any:
        pool = Pool(project, "stage", "regular")
        lines = [
            UserLine(n, f"first-{n}@shop.test", f"password {n}", pool, labels if n % 2 else {})
            for n in range(number)
        ]
        return multiple(*self.import_all(lines, skip_errors=False))

    @precondition(lambda self: len(self.model.projects) < 2)
    @rule(target=projects, policy=POLICIES)
    def create_project(self, policy: ProjectPolicy) -> UUID:
        return self.open_project(policy)

    @precondition(lambda self: len(self.model.projects) > 1)
    @rule(project=projects, changes=st.none() | POLICY_CHANGES)
    def update_or_delete_project(self, project: UUID, changes: Any) -> None:
        if changes:
            update = self.services.projects.update(MANAGER, project, ProjectChanges(**changes))
            self.both(lambda: self.model.update_project(project, changes), update)
        else:
            self.both(
                lambda: self.model.delete_project(project), self.services.projects.delete(MANAGER, project)
            )

    @rule(target=users, project=projects, kind=KINDS, login=LOGINS, labels=LABELS)
    def create_user(self, project: UUID, kind: Kind, login: str, labels: dict[str, str]) -> Any:
        user = ModelUser(
            login, f"password of {login}", Pool(project, *kind), labels, self.model.now, self.model.now
        )
        provisional = uuid4()
        create = self.services.users.create(
            MANAGER, login=login, password=user.password, pool=user.pool, labels=labels
        )
        answers = self.both(lambda: self.model.add_user(provisional, user), create)
        if answers is None:
            return multiple()
        del self.model.users[provisional]
        assert self.adopt(user) == answers[1].id
        return answers[1].id

    @rule(
        target=users,
        project=projects,
        kind=KINDS,
        wanted=st.lists(st.tuples(LOGINS, LABELS), max_size=3),
        skip_errors=st.booleans(),
    )
    def import_users(self, project: UUID, kind: Kind, wanted: list[Any], skip_errors: bool) -> Any:
        pool = Pool(project, *kind)
        lines = [
            UserLine(line, login, "imported", pool, labels) for line, (login, labels) in enumerate(wanted, 1)
        ]
        return multiple(*self.import_all(lines, skip_errors=skip_errors))

    @rule(user=LAST | users, project=projects, changes=USER_CHANGES, moves=RARELY)
    def update_user(self, user: UUID | None, project: UUID, changes: UserChanges, moves: bool) -> None:
        user = user or self.model.leases[self.touched].users[0]
        changes = replace(changes, project_id=project if moves else None)
        update = self.services.users.update(MANAGER, user, changes)
        answers = self.both(lambda: self.model.update_user(user, changes), update)
        if answers:
            self.pools[user] = answers[0].pool
            assert (answers[1].state, answers[1].labels) == (self.model.state(answers[0]), answers[0].labels)

    @rule(user=LAST | users, is_on=st.booleans())
    def quarantine(self, user: UUID | None, is_on: bool) -> None:
        user = user or self.model.leases[self.touched].users[0]
        statuses = self.services.user_statuses
        if is_on:
            model = partial(self.model.quarantine, user)
            change = statuses.quarantine(MANAGER, user, reason="why", until=None)
        else:
            model = partial(self.model.restore, user)
            change = statuses.restore(MANAGER, user, note=None, clean=None)
        answers = self.both(model, change)
        if answers:
            assert answers[1].state == self.model.state(answers[0])

    @rule(user=LAST | users, pause=PAUSES)
    def delete_user(self, user: UUID | None, pause: int) -> None:
        self.wait(pause)
        user = user or self.model.leases[self.touched].users[0]
        self.both(lambda: self.model.delete_user(user), self.services.users.delete(MANAGER, user))

    # Hand-outs

    @initialize(target=leases, like=users)
    def first_lease(self, like: UUID) -> Any:
        return self.acquire(Wanted(RUNNER.name, None, None, self.pools[like]))

    @rule(
        target=leases,
        principal=PRINCIPALS,
        like=users,
        labels=WANTED_LABELS,
        count=st.sampled_from([1, 1, 2, 3]),
        ttl=TTLS,
        key=KEYS,
        caller=CALLERS,
        pause=PAUSES,
    )
    def acquire_lease(
        self, principal: str, like: UUID, labels: Any, count: int, ttl: Any, key: Any, caller: str, pause: int
    ) -> Any:
        self.wait(pause)
        return self.acquire(Wanted(principal, key, ttl, self.pools[like], labels, count), caller)

    @rule(target=leases, principal=PRINCIPALS, user=users, ttl=TTLS, key=KEYS, caller=CALLERS, pause=PAUSES)
    def acquire_lock(self, principal: str, user: UUID, ttl: Any, key: Any, caller: str, pause: int) -> Any:
        self.wait(pause)
        return self.acquire(Wanted(principal, key, ttl, user), caller)

    @rule(target=leases, lease=leases, principal=PRINCIPALS, pause=PAUSES)
    def lock_again(self, lease: UUID, principal: str, pause: int) -> Any:
        """A user that had this lease."""
        self.wait(pause)
        return self.acquire(Wanted(principal, None, None, self.model.leases[lease].users[0]))

    @rule(target=leases, lease=LAST | leases, pause=PAUSES)
    def retry(self, lease: UUID | None, pause: int) -> Any:
        """The last request, or an earlier one, once more: under its key the same lease, else another one."""
        self.wait(pause)
        return self.acquire(self.model.leases[lease or self.touched].wanted)

    # The life of a lease

    @rule(lease=LAST | leases, by_holder=BY_HOLDER, ttl=TTLS, pause=PAUSES)
    def renew(self, lease: UUID | None, by_holder: bool, ttl: int | None, pause: int) -> None:
        self.wait(pause)
        lease = self.touched = lease or self.touched
        who = self.caller(lease, by_holder=by_holder)
        renew = self.services.leases.renew(who, lease, ttl_seconds=ttl)
        answers = self.both(lambda: self.model.renew(who.name, lease, ttl), renew)
        if answers:
            self.same_lease(answers[1], answers[0], reader=who.name)

    @rule(lease=LAST | leases, by_holder=BY_HOLDER, pause=PAUSES)
    def release(self, lease: UUID | None, by_holder: bool, pause: int) -> None:
        self.wait(pause)
        lease = self.touched = lease or self.touched
        who = self.caller(lease, by_holder=by_holder)
        answers = self.both(
            lambda: self.model.release(who.name, lease), self.services.leases.release(who, lease)
        )
        if answers:
            self.same_lease(answers[1], answers[0])

    @rule(lease=leases, pause=PAUSES)
    def force_release(self, lease: UUID, pause: int) -> None:
        self.wait(pause)
        self.touched = lease
        force = self.services.leases.force_release(MANAGER, lease, reason="stuck job")
        answers = self.both(lambda: self.model.force_release(lease), force)
        assert answers
        self.same_lease(answers[1], answers[0])

    @rule(lease=leases, user=st.none() | users, by_holder=BY_HOLDER, with_id=st.booleans(), pause=PAUSES)
    def release_lock(
        self, lease: UUID, user: UUID | None, by_holder: bool, with_id: bool, pause: int
    ) -> None:
        """Of a user of the lease, or of any user."""
        self.wait(pause)
        self.touched = lease
        who, of = self.caller(lease, by_holder=by_holder), user or self.model.leases[lease].users[0]
        lease_id = lease if with_id else None
        release = self.services.leases.release_lock(who, of, lease_id=lease_id)
        answers = self.both(lambda: self.model.release_lock(who.name, of, lease_id), release)
        if answers:
            assert answers[1].state is self.model.state(self.model.users[of])

    # Time

    @rule(seconds=st.sampled_from([1, 101, 201, 401, 1001]))
    def time_passes(self, seconds: int) -> None:
        self.wait(seconds)

    @precondition(lambda self: any(not lease.ended_by for lease in self.model.leases.values()))
    @rule(pause=PAUSES)
    def reap(self, pause: int) -> None:
        self.wait(pause)
        assert self.world.run(self.services.maintenance.reap()) == self.model.reap()
        assert not self.world.rows("SELECT id FROM users WHERE expires_at <= clock_timestamp()")
        assert not self.world.rows(
            "SELECT id FROM leases WHERE ended_at IS NULL AND expires_at <= clock_timestamp()"
        )


@pytest.mark.timeout(900)  # a failure is made as short as can be, which takes longer than to find it
def test_no_sequence_of_operations_breaks_a_rule(world: World) -> None:
    run_machine(FarmMachine, world)
