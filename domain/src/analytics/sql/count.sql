-- Adds rows of the log to every table of figures: once read, summed by event and day, and from there on summed up.
--
-- The most tickets sold at a time are those sold before these rows plus the highest of their running sums. The first
-- moment at which that was reached stays, so that it makes no difference where one batch ends and the next begins.
WITH counted AS MATERIALIZED (
    SELECT c.event_id, a.organizer_id, a.currency, (c.at AT TIME ZONE a.timezone)::date AS day, {sums}
    FROM booking_log_figures c JOIN analytics_events a ON a.event_id = c.event_id
    WHERE c.id > $1 AND c.id <= $2
    GROUP BY 1, 2, 3, 4
), {summed}, run AS (
    SELECT event_id, id, at,
           sum(CASE kind WHEN 'confirmed' THEN quantity WHEN 'cancelled' THEN -quantity ELSE 0 END)
               OVER (PARTITION BY event_id ORDER BY id) AS net
    FROM booking_log WHERE id > $1 AND id <= $2
), highest AS (
    SELECT DISTINCT ON (event_id) event_id, net, at FROM run ORDER BY event_id, net DESC, id
), excluded AS (
    SELECT c.event_id, {sums} FROM counted c GROUP BY 1
)
UPDATE analytics_events t
SET {added},
    peak_tickets = greatest(t.peak_tickets, t.tickets - t.cancelled_tickets + highest.net),
    peak_at = CASE WHEN t.tickets - t.cancelled_tickets + highest.net > t.peak_tickets THEN highest.at
                   ELSE t.peak_at END
FROM excluded JOIN highest ON highest.event_id = excluded.event_id
WHERE t.event_id = excluded.event_id
