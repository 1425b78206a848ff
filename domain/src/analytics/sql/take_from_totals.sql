UPDATE analytics_totals t SET {taken}
FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
WHERE c.event_id = $1 AND t.day = c.day AND t.currency = a.currency AND t.organizer_id IN ({everybody}, a.organizer_id)
