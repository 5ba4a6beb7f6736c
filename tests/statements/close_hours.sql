-- The worker's job `rollups`, after the statement before: closes hours in which nothing changes any more.
-- Keeps the fences of the leases that are live then, because they began in hours that are not read again.

WITH first AS MATERIALIZED (
    SELECT coalesce(
        (SELECT fence FROM leases WHERE fence >= :first_fence AND fence < :beyond AND acquired_at >= :hour
         ORDER BY fence LIMIT 1),
        (SELECT max(fence) + 1 FROM leases WHERE fence >= :first_fence AND fence < :beyond),
        :first_fence) AS fence
)
INSERT INTO rollup_hours (hour, first_fence, carried)
SELECT :hour, first.fence, ARRAY(
    SELECT l.fence FROM (
    SELECT fence, ended_at FROM leases WHERE fence >= :first_fence AND fence < :beyond AND coalesce(purpose, 'test') = 'test'
    UNION ALL
    SELECT fence, ended_at FROM leases WHERE fence = ANY (CAST(:carried AS bigint[])) AND coalesce(purpose, 'test') = 'test') AS l
    WHERE l.fence < first.fence AND (l.ended_at IS NULL OR l.ended_at > :hour) ORDER BY l.fence)
FROM first
ON CONFLICT (hour) DO UPDATE SET first_fence = excluded.first_fence, carried = excluded.carried
