WITH recount AS (
    SELECT c.event_id, date_trunc('month', c.day)::date AS day, {sums} FROM analytics_days c GROUP BY 1, 2
)
SELECT count(*) AS differences
FROM recount c FULL JOIN analytics_months t ON t.event_id = c.event_id AND t.day = c.day
WHERE ({zeroed c}) <> ({zeroed t})
