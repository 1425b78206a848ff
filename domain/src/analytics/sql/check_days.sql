-- One statement, hence one snapshot: the offset and the figures are of the same moment.
WITH recount AS (
    SELECT c.event_id, (c.at AT TIME ZONE coalesce(a.timezone, 'UTC'))::date AS day, {sums}
    FROM ({everything}) c LEFT JOIN analytics_events a ON a.event_id = c.event_id
    GROUP BY 1, 2
)
SELECT count(*) AS differences
FROM recount c FULL JOIN analytics_days t ON t.event_id = c.event_id AND t.day = c.day
WHERE ({zeroed c}) <> ({zeroed t})
