WITH counted AS MATERIALIZED (
    SELECT c.event_id, a.organizer_id, a.currency, (c.at AT TIME ZONE a.timezone)::date AS day, {sums}
    FROM ({everything}) c JOIN analytics_events a ON a.event_id = c.event_id
    WHERE c.event_id = $1
    GROUP BY 1, 2, 3, 4
), {summed}
SELECT FROM counted
