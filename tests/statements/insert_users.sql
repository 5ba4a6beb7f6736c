-- POST /users/import: inserts a batch of users.
-- Skips logins that the project and env have already.

INSERT INTO users (id, login, login_key, password, secrets, totp_seed, project_id, env, domain, labels, managed_by)
SELECT id, login, login_key, password, secrets, totp_seed, project_id, env, domain, CAST(labels AS jsonb),
       CAST(:managed_by AS text)
FROM unnest(CAST(:ids AS uuid[]), CAST(:logins AS text[]), CAST(:login_keys AS text[]),
            CAST(:passwords AS text[]), CAST(:secrets AS text[]), CAST(:totp_seeds AS text[]),
            CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]),
            CAST(:labels AS text[]))
     AS new (id, login, login_key, password, secrets, totp_seed, project_id, env, domain, labels)
ON CONFLICT DO NOTHING
RETURNING id
