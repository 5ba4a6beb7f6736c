-- `botfarm after-restore`: ends every lease of the restored database.
-- Runs under a lock of both tables, in the transaction of the two statements that follow.

WITH ended AS (
    UPDATE leases SET ended_at = clock_timestamp(), ended_by = 'forced',
           note = 'the database was restored'
    WHERE ended_at IS NULL AND expires_at > clock_timestamp()
    RETURNING 1
)
SELECT count(*) FROM ended
