-- `botfarm keys reencrypt`: writes credentials under another key, under the lock of the users' pool.
-- Skips users that are locked or are not as they were read; they are tried again.

WITH chosen AS MATERIALIZED (
    SELECT u.id, new.password, new.secrets, new.totp_seed, new.pending_password
    FROM unnest(CAST(:ids AS uuid[]),
                CAST(:old_passwords AS text[]), CAST(:old_secrets AS text[]),
                CAST(:old_totp_seeds AS text[]), CAST(:old_pending_passwords AS text[]),
                CAST(:passwords AS text[]), CAST(:secrets AS text[]), CAST(:totp_seeds AS text[]),
                CAST(:pending_passwords AS text[]))
         AS new (id, old_password, old_secrets, old_totp_seed, old_pending_password,
                 password, secrets, totp_seed, pending_password)
    JOIN users AS u ON u.id = new.id
    WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain
      AND u.password IS NOT DISTINCT FROM new.old_password
      AND u.secrets IS NOT DISTINCT FROM new.old_secrets
      AND u.totp_seed IS NOT DISTINCT FROM new.old_totp_seed
      AND u.pending_password IS NOT DISTINCT FROM new.old_pending_password
    FOR UPDATE OF u SKIP LOCKED
)
UPDATE users SET password = chosen.password, secrets = chosen.secrets, totp_seed = chosen.totp_seed,
       pending_password = chosen.pending_password
FROM chosen WHERE users.id = chosen.id
RETURNING users.id
