-- Adds holds to every table of figures.
WITH counted AS MATERIALIZED (
    SELECT h.event_id, a.organizer_id, a.currency, (h.at AT TIME ZONE a.timezone)::date AS day, {none},
           sum(h.holds)::bigint AS holds
    FROM ({holds}) h JOIN analytics_events a ON a.event_id = h.event_id
    GROUP BY 1, 2, 3, 4
), {summed}, excluded AS (
    SELECT c.event_id, {sums} FROM counted c GROUP BY 1
)
UPDATE analytics_events t SET {added} FROM excluded WHERE t.event_id = excluded.event_id
