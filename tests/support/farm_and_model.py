"""What must be true of the farm, and of it and its model, after each step."""

import math
from dataclasses import replace
from operator import itemgetter

from hypothesis.stateful import invariant

from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import LeaseFilter
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserState
from support.farm import KEEPER, OTHER_RUNNER, RUNNER
from support.farm_beside_model import FarmBesideModel

BROKEN_RULES = """
    SELECT 'a user is in one live lease at most' AS rule, user_id AS id FROM leases, unnest(user_ids) AS user_id
    WHERE ended_at IS NULL AND expires_at > clock_timestamp() GROUP BY user_id HAVING count(*) > 1
    UNION ALL
    SELECT 'a live lease has exactly its users', l.id FROM leases AS l
    WHERE l.ended_at IS NULL AND l.expires_at > clock_timestamp() AND cardinality(l.user_ids) <> (
        SELECT count(*) FROM users AS u
        WHERE u.id = ANY (l.user_ids)
          AND (u.lease_id, u.fence) = (l.id, l.fence)
          AND (u.locktime, u.expires_at) = (l.acquired_at, l.expires_at)
          AND (u.project_id, u.env, u.domain) = (l.project_id, l.env, l.domain))
    UNION ALL
    SELECT 'a lock is of a live lease', u.id FROM users AS u
    WHERE u.locktime IS NOT NULL AND u.expires_at > clock_timestamp() AND NOT EXISTS (
        SELECT FROM leases AS l
        WHERE l.id = u.lease_id AND u.id = ANY (l.user_ids)
          AND l.ended_at IS NULL AND l.expires_at > clock_timestamp())
    UNION ALL
    -- A project's lock-delay only ever gets shorter here, and leases under way keep the longer one.
    SELECT 'after its expiry a user rests for the lock-delay', u.id
    FROM users AS u JOIN projects AS p ON p.id = u.project_id
    WHERE u.locktime IS NOT NULL AND u.expires_at > clock_timestamp()
      AND u.available_at < u.expires_at + make_interval(secs => p.lock_delay)
    UNION ALL
    SELECT 'a key is of one lease of its principal', min(id::text)::uuid FROM leases WHERE idempotency_key IS NOT NULL
    GROUP BY principal, idempotency_key HAVING count(*) > 1"""
"""Each of them says where it is broken. One statement for all, because they are looked at after every step."""
JUST_QUARANTINED = """
    SELECT max(a.id) OVER () AS audited, p.quarantine_share, pool.*
    FROM audit AS a JOIN users AS chosen ON chosen.id::text = a.target_id
         JOIN projects AS p ON p.id = chosen.project_id,
         LATERAL (
             SELECT count(*) FILTER (WHERE is_recent) AS recent,
                    count(*) FILTER (WHERE is_recent OR status IN ('active', 'dirty')) AS in_service
             FROM users AS u,
                  LATERAL (SELECT coalesce(u.quarantined_by_policy_at > clock_timestamp() - interval '1 hour', false)
                           AS is_recent) AS within
             WHERE (u.project_id, u.env, u.domain) = (chosen.project_id, chosen.env, chosen.domain)
         ) AS pool
    WHERE a.id > $1 AND a.action = 'quarantine_user' AND a.principal = 'policy'"""


class FarmAndModel(FarmBesideModel):
    @invariant()
    def the_rules_hold(self) -> None:
        self.no_rule_of_leases_is_broken()
        self.fences_rise_with_each_hand_out()
        self.no_user_is_lost()
        self.the_policy_empties_no_pool()
        self.every_user_is_as_the_model_says()
        self.every_lease_is_as_the_model_says()
        self.passwords_are_for_the_holder_of_a_live_lease()

    def no_rule_of_leases_is_broken(self) -> None:
        assert not self.world.rows(BROKEN_RULES)

    def fences_rise_with_each_hand_out(self) -> None:
        rows = self.world.rows("SELECT id, acquired_at FROM leases ORDER BY fence")
        assert [row["id"] for row in rows] == list(self.model.leases)
        assert rows == sorted(rows, key=itemgetter("acquired_at"))

    def no_user_is_lost(self) -> None:
        usages = {usage.pool: usage.counts for usage in self.world.run(self.services.pools.list(EVERYTHING))}
        assert usages.keys() == {user.pool for user in self.model.users.values()}
        for pool, counts in usages.items():
            expected = self.model.counts(self.model.members(pool))
            assert self.close(counts.next_free_in, expected.next_free_in)
            assert replace(counts, next_free_in=None) == replace(expected, next_free_in=None)
            in_service = set(UserState) - {UserState.RETIRED}
            assert counts.total == sum(getattr(counts, state) for state in in_service)

    def the_policy_empties_no_pool(self) -> None:
        """Where the policy has just quarantined users, it has not quarantined too many within the hour."""
        for row in self.world.rows(JUST_QUARANTINED, self.audited):
            self.audited = row["audited"]
            room = max(1, math.floor(row["quarantine_share"] * row["in_service"]))
            assert row["recent"] <= room, f"{row['recent']} of {row['in_service']}"

    def every_user_is_as_the_model_says(self) -> None:
        rows = self.world.rows("SELECT *, clock_timestamp() AS now FROM users")
        assert {row["id"] for row in rows} == self.model.users.keys()
        for row in rows:
            user = self.model.users[row["id"]]
            assert Pool(row["project_id"], row["env"], row["domain"]) == user.pool
            assert (row["login"], row["status"]) == (user.login, user.status)
            for name in ("health", "health_reason", "failures", "failed_chores", "must_rotate"):
                assert row[name] == getattr(user, name), name
            assert (row["pending_password"] is None) is (user.pending is None)
            assert self.close_to_due(row["available_at"], row["now"], user.available_at)
            assert self.model.leases.get(row["lease_id"]) is user.lease
            is_locked = row["locktime"] is not None and row["expires_at"] > row["now"]
            assert is_locked is (self.model.live_lease(user) is not None)

    def every_lease_is_as_the_model_says(self) -> None:
        leases = self.world.run(
            self.services.leases.list(EVERYTHING, LeaseFilter(), cursor=None, limit=1_000)
        ).items
        assert [lease.id for lease in leases] == list(reversed(self.model.leases))
        for lease in leases:
            self.same_lease(lease, self.model.leases[lease.id])

    def passwords_are_for_the_holder_of_a_live_lease(self) -> None:
        if self.touched in self.model.leases:
            for reader in (RUNNER, OTHER_RUNNER, KEEPER):
                lease = self.world.run(self.services.leases.get(reader, self.touched))
                self.same_lease(lease, self.model.leases[self.touched], reader=reader.name)
