INSERT INTO analytics_days (event_id, day, {names})
SELECT c.event_id, (c.at AT TIME ZONE $2)::date, {sums}
FROM booking_log_counts c
WHERE c.event_id = $1 AND c.id <= (SELECT log_id FROM analytics_offset)
GROUP BY 1, 2
