UPDATE analytics_system_days t SET {taken}
FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
WHERE c.event_id = $1 AND t.day = c.day AND t.currency = a.currency
