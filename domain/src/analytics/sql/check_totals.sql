WITH recount AS (
    SELECT o.id, c.day, a.currency, {sums}
    FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id,
         LATERAL (VALUES ({everybody}), (a.organizer_id)) o (id)
    WHERE o.id IS NOT NULL
    GROUP BY 1, 2, 3
)
SELECT count(*) AS differences
FROM recount c FULL JOIN analytics_totals t ON t.organizer_id = c.id AND t.day = c.day AND t.currency = c.currency
WHERE ({zeroed c}) <> ({zeroed t})
