-- `botfarm keys status`, `keys drop`, `keys reencrypt`; the start of the API; the worker's gauges.
-- One scan of all users, whatever the number of keys.

SELECT key_id, CAST(sum(users) AS bigint) AS values
FROM (SELECT CASE WHEN starts_with(password, 'v1.') IS FALSE THEN '' ELSE split_part(left(password, 36), '.', 2) END AS password, CASE WHEN starts_with(secrets, 'v1.') IS FALSE THEN '' ELSE split_part(left(secrets, 36), '.', 2) END AS secrets,
             CASE WHEN starts_with(totp_seed, 'v1.') IS FALSE THEN '' ELSE split_part(left(totp_seed, 36), '.', 2) END AS totp_seed, CASE WHEN starts_with(pending_password, 'v1.') IS FALSE THEN '' ELSE split_part(left(pending_password, 36), '.', 2) END AS pending,
             count(*) AS users
      FROM users GROUP BY 1, 2, 3, 4) AS counted,
     LATERAL (VALUES (password), (secrets), (totp_seed), (pending)) AS each (key_id)
WHERE key_id IS NOT NULL GROUP BY key_id
