INSERT INTO analytics_system_days AS t (day, currency, {names})
SELECT c.day, a.currency, {sums}
FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
WHERE c.event_id = $1
GROUP BY 1, 2
ON CONFLICT (day, currency) DO UPDATE SET {added}
