-- The transactions that may have drawn an id from the log's sequence and not ended yet: whoever inserts has this
-- lock since before it drew the id, and keeps it until its rows are visible or gone.
SELECT DISTINCT virtualtransaction AS writer
FROM pg_locks
WHERE locktype = 'relation' AND relation = 'booking_log'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode = 'RowExclusiveLock' AND granted
  AND ($1::text[] IS NULL OR virtualtransaction = ANY($1))
