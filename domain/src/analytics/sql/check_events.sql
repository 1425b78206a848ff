WITH run AS (
    SELECT c.event_id, c.id, c.at, sum(c.tickets - c.cancelled_tickets) OVER (PARTITION BY c.event_id ORDER BY c.id) AS net
    FROM booking_log_figures c WHERE c.id <= (SELECT log_id FROM analytics_offset)
), highest AS (
    SELECT DISTINCT ON (event_id) event_id, net, at FROM run ORDER BY event_id, net DESC, id
), recount AS (
    SELECT c.event_id, {sums} FROM ({everything}) c GROUP BY 1
)
SELECT count(*) AS differences
FROM (recount c LEFT JOIN highest h ON h.event_id = c.event_id)
FULL JOIN analytics_events t ON t.event_id = c.event_id
WHERE ({zeroed c}, greatest(h.net, 0)) IS DISTINCT FROM ({zeroed t}, t.peak_tickets)
   OR CASE WHEN h.net > 0 THEN h.at END IS DISTINCT FROM t.peak_at
