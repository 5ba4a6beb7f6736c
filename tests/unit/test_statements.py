"""The hard statements as they are sent: one file each in tests/statements, to be read whole and compared.

They are put together from pieces, so these files show every statement that a change of one piece changes.
After a change run

    BOTFARM_TEST_RENEW=1 .venv/bin/python -m pytest -n 0 tests/unit/test_statements.py

and read the difference.
"""

import os
from pathlib import Path
from textwrap import dedent

import pytest
from sqlalchemy import TextClause

from botfarm.db.leasing import (
    lease_queries,
    pool_grant_statements,
    reap_queries,
    release_queries,
    user_grant_queries,
)
from botfarm.db.stock import change_queries, history_queries, pool_queries, status_queries, user_queries
from botfarm.db.upkeep import key_queries, restore_queries
from botfarm.db.usage import demand_queries, rollup_statement
from botfarm.db.waiting import queue_queries, ticket_queries, waiting_list_queries
from botfarm.domain.leases import Purpose

FOLDER = Path(__file__).parents[1] / "statements"

STATEMENTS: dict[str, tuple[TextClause, str, str]] = {
    "grant_from_pool": (
        pool_grant_statements.GRANT,
        "POST /leases: grants users of one pool to a batch of requests for the same labels, a lease to each.",
        "Returns no row for a request that finds too few users, or when a live ticket waits in this pool.",
    ),
    "grant_tickets": (
        pool_grant_statements.GRANT_TICKETS,
        "The same for requests that wait, when their replica finds that it is their turn.",
        "Deletes each ticket with the grant, so that a wait that is over is never granted.",
    ),
    "grant_first_ticket": (
        pool_grant_statements.GRANT_FIRST_TICKET,
        "The same for one request, when users were freed and the last reading of the queue had it in front.",
        "Returns no row when another live ticket stands before it.",
    ),
    "grant_user": (
        user_grant_queries.GRANT_USER,
        "POST /users/{user_id}/acquire_lock: grants one user by its id, whatever its pool.",
        "Returns no row when the user is busy or locked, or the idempotency key is taken.",
    ),
    "grant_chores": (
        pool_grant_statements.GRANT_CHORES,
        "POST /leases with the purpose chore: grants users that are dirty or due to keepers of one pool.",
        "A user that is not dirty is left to a test that waits. Each row says what is due.",
    ),
    "hold_user": (
        user_grant_queries.HOLD_USER,
        "POST /leases with the purpose hold and a user: also a user that no test would get.",
        "Returns no row when the user is leased, retired or locked, or the idempotency key is taken.",
    ),
    "renew": (
        lease_queries.RENEW,
        "POST /leases/{lease_id}/renew: a batch of renewals, each by the holder of its lease.",
        "Also writes an audit entry for a renewal from another address than the lease was acquired from.",
    ),
    "cut_short": (
        lease_queries.CUT_SHORT,
        "After a grant under an idempotency key whose caller hung up: shortens the lease to some seconds.",
        "Changes nothing when the row is not as the grant left it, because a retry may have come first.",
    ),
    "restore_ttl": (
        lease_queries.RESTORE,
        "POST /leases, retried under the idempotency key of a live lease: undoes cut_short.",
        "Always writes the row, so that a cut_short that comes later changes nothing.",
    ),
    "release": (
        release_queries.RELEASE,
        "POST /leases/{lease_id}/release: a batch of releases, each by the holder of its lease.",
        "Of tests and holds, with verdicts that cannot quarantine a user. May wake waiting requests at its commit.",
    ),
    "release_judged": (
        release_queries.RELEASE_JUDGED,
        "POST /leases/{lease_id}/release with any verdicts, or of a chore: under the lock of the pool.",
        "Also ends a lease whose answer could not be given to its caller.",
    ),
    "force_release": (
        release_queries.FORCE_RELEASE,
        "POST /leases/{lease_id}/force_release: an operator ends a lease of the scope, whoever holds it.",
        "Its users rest for the project's lock_delay.",
    ),
    "reap": (
        reap_queries.REAP,
        "The worker's job `reap`: closes expired leases and frees the users whose last lease they are.",
        "Skips leases that another statement has locked; the next turn finds them.",
    ),
    "reap_judged": (
        reap_queries.REAP_JUDGED,
        "The same for one pool and for leases whose end may lead to a quarantine, under the lock of the pool.",
        "The next statement decides who is quarantined.",
    ),
    "quarantine_by_policy": (
        status_queries.BY_POLICY,
        "After a release, a force or the reaper, in its transaction and under the lock of the pool.",
        "Quarantines users that have failed too often, within the share of the pool and the hour.",
    ),
    "restore_users": (
        status_queries.RESTORE,
        "POST /users/{user_id}/restore and POST /users/bulk: puts users back into service.",
        "Skips active and retired users.",
    ),
    "leases_of_user": (
        history_queries.LEASES_OF_USER,
        "GET /users/{user_id}/history: the leases of one user, the newest first.",
        "Events of the audit are read by another statement, and both are merged.",
    ),
    "lock_user_of_lease": (
        lease_queries.LOCK_USER_OF_LEASE,
        "PATCH /leases/{lease_id}/users/{user_id}: reads the credentials before the changes are merged.",
        "Holds the locks of the lease and of its users until the transaction ends.",
    ),
    "count_pool": (
        pool_queries.COUNT_POOL,
        "POST /leases without a grant: counts matching users and waiting requests, for the 409 or the wait.",
        "Requests that ask at the same time share one count.",
    ),
    "look_for_changes": (
        change_queries.LOOK,
        "Once a second while a page is open: marks of what the pages show, by project and env.",
        "A process compares them with those of the look before, and rings at the pages of the scopes that differ.",
    ),
    "count_pools": (
        pool_queries.COUNT_POOLS,
        "GET /pools, and the worker's job `gauges`.",
        "Counts every pool of the scope at one moment.",
    ),
    "insert_tickets": (
        ticket_queries.INSERT,
        "Requests that begin to wait: inserts a batch of tickets, or takes over those of the same keys.",
        "A ticket ranks by the arrival of its request, never before earlier tickets of the same replica.",
    ),
    "queue_of_pool": (
        queue_queries.QUEUES[Purpose.TEST],
        "A replica with waiting requests, when users may be free: reads the queue to find the next tickets.",
        "Returns one row: grantable tickets in order, free users by the tickets they match, next free user, first.",
    ),
    "queue_of_keepers": (
        queue_queries.QUEUES[Purpose.CHORE],
        "The same for the keepers that wait: their queue, and the users that are dirty or due.",
        "A user that is not dirty does not count while a test waits.",
    ),
    "withdraw_tickets": (
        ticket_queries.WITHDRAW,
        "Requests whose wait is over without a user: removes a batch of tickets.",
        "With an idempotency key the place may be kept for some seconds, for a retry at any replica.",
    ),
    "list_waiting": (
        waiting_list_queries.WAITING,
        "GET /leases/waiting: the live tickets of the scope.",
        "Ordered pool by pool, in the order in which they are served.",
    ),
    "roll_up": (
        rollup_statement.ROLL_UP,
        "The worker's job `rollups`: replaces the rollups of some hours, and of the hour under way, by new ones.",
        "Reads leases by their fences, and leaves the seconds of users in service. Closes settled hours for good.",
    ),
    "first_fence": (
        demand_queries.FIRST_FENCE,
        "GET /capacity: finds the first lease since a time by the fences, which grow with time.",
        "Reads one row of the index for each step of a binary search.",
    ),
    "leases_of_pool": (
        demand_queries.LEASES,
        "GET /capacity: a page of the leases of one pool since then, the newest first.",
        "Walks the index of the fences, over the leases of all pools.",
    ),
    "insert_users": (
        user_queries.INSERT_USERS,
        "POST /users/import: inserts a batch of users.",
        "Skips logins that the project and env have already.",
    ),
    "count_values_by_key": (
        key_queries.ENCRYPTED_VALUES,
        "`botfarm keys status`, `keys drop`, `keys reencrypt`; the start of the API; the worker's gauges.",
        "One scan of all users, whatever the number of keys.",
    ),
    "replace_credentials": (
        key_queries.REPLACE,
        "`botfarm keys reencrypt`: writes credentials under another key, under the lock of the users' pool.",
        "Skips users that are locked or are not as they were read; they are tried again.",
    ),
    "end_leases_after_restore": (
        restore_queries.END_LEASES,
        "`botfarm after-restore`: ends every lease of the restored database.",
        "Runs under a lock of both tables, in the transaction of the two statements that follow.",
    ),
    "rest_users_after_restore": (
        restore_queries.REST_USERS,
        "`botfarm after-restore`: lets every user rest, because later leases may still be held.",
        "How long: as asked for, else the longest that such a lease could last.",
    ),
    "raise_fence_after_restore": (
        restore_queries.RAISE_FENCE,
        "`botfarm after-restore`: moves the sequence of fences above every fence granted after the backup.",
        "The time in microseconds is the new fence.",
    ),
}


def rendered(name: str) -> str:
    statement, when, note = STATEMENTS[name]
    lines = [line.rstrip() for line in dedent(statement.text).splitlines() if line.strip()]
    return "\n".join([f"-- {when}", f"-- {note}", "", *lines, ""])


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_the_one_that_was_read(name: str) -> None:
    file = FOLDER / f"{name}.sql"
    if os.environ.get("BOTFARM_TEST_RENEW"):
        file.write_text(rendered(name))
    assert file.read_text() == rendered(name), "read how to renew the file at the top of this test"


def test_no_file_is_left_of_a_statement_that_is_gone() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(STATEMENTS)
