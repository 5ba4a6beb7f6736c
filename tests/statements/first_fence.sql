-- GET /capacity: finds the first lease since a time by the fences, which grow with time.
-- Reads one row of the index for each step of a binary search.

WITH RECURSIVE search AS (
    SELECT min(fence) AS low, max(fence) + 1 AS high FROM leases
    UNION ALL
    SELECT CASE WHEN is_before THEN middle + 1 ELSE low END, CASE WHEN is_before THEN high ELSE middle END
    FROM (
        SELECT low, high, middle, (SELECT acquired_at < :since FROM leases WHERE fence >= middle
                                   ORDER BY fence LIMIT 1) AS is_before
        FROM search, LATERAL (SELECT (low + high) / 2 AS middle) AS m WHERE low < high
    ) AS halves
)
SELECT low FROM search WHERE low = high
