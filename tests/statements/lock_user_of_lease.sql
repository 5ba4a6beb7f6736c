-- PATCH /leases/{lease_id}/users/{user_id}: reads the credentials before the changes are merged.
-- Holds the locks of the lease and of its users until the transaction ends.

WITH lease AS MATERIALIZED (
    SELECT * FROM leases WHERE id = :lease_id AND principal = :principal FOR UPDATE
),
locked AS MATERIALIZED (
    SELECT users.id, users.lease_id, users.expires_at, users.password, users.secrets, users.totp_seed, users.pending_password, users.rotated_at, users.code_used_until
    FROM lease, unnest(lease.user_ids) AS of_lease (id), users
    WHERE users.id = of_lease.id AND users.lease_id = lease.id
    ORDER BY users.id FOR UPDATE OF users
)
SELECT locked.password, locked.secrets, locked.totp_seed, locked.pending_password,
       locked.rotated_at >= lease.acquired_at AS was_rotated, locked.code_used_until
FROM lease, locked
WHERE locked.id = :user_id AND lease.ended_at IS NULL AND locked.expires_at > clock_timestamp()
