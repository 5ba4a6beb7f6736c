-- Once a second while a page is open: marks of what the pages show, by project and env.
-- A process compares them with those of the look before, and rings at the pages of the scopes that differ.

SELECT 'leases' AS kind, project_id, env, CAST(NULL AS bigint[]) AS numbers,
       concat_ws(' ', count(*), count(*) FILTER (WHERE expires_at > c.now),
                 sum(extract(epoch FROM expires_at))) AS mark
FROM leases, (SELECT clock_timestamp() AS now) AS c WHERE ended_at IS NULL GROUP BY project_id, env
UNION ALL
SELECT 'tickets', t.project_id, t.env, NULL, concat_ws(' ', count(*), sum(t.id))
FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' GROUP BY t.project_id, t.env
UNION ALL
SELECT 'grants', project_id, env, array_agg(fence), NULL FROM (
    SELECT project_id, env, fence FROM leases WHERE fence > :grants_after ORDER BY fence DESC LIMIT 10000
) AS granted GROUP BY project_id, env
UNION ALL
SELECT 'deeds', project_id, env, array_agg(id), NULL FROM (
    SELECT project_id, env, id FROM audit WHERE id > :deeds_after ORDER BY id DESC LIMIT 10000
) AS done GROUP BY project_id, env
