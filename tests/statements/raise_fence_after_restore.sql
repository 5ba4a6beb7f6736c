-- `botfarm after-restore`: moves the sequence of fences above every fence granted after the backup.
-- The time in microseconds is the new fence.

SELECT setval('fence', greatest(nextval('fence'),
                                CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)))
