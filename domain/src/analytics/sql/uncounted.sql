-- How far the log is counted, how far it goes, and for how long its first uncounted row has waited;
-- and how many figures differed when they were last compared with a recount.
SELECT o.log_id AS counted, o.differences, coalesce((SELECT max(id) FROM booking_log), 0) AS newest,
       coalesce(extract(epoch FROM clock_timestamp() -
           (SELECT at FROM booking_log WHERE id > o.log_id ORDER BY id LIMIT 1)), 0)::float8 AS lag_secs
FROM analytics_offset o
