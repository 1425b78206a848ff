WITH recount AS (
    SELECT c.day, a.currency, {sums}
    FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
    GROUP BY 1, 2
)
SELECT count(*) AS differences
FROM recount c FULL JOIN analytics_system_days t ON t.day = c.day AND t.currency = c.currency
WHERE ({zeroed c}) <> ({zeroed t})
