-- Every event that the rows speak of has its line, in the zone of its venue.
INSERT INTO analytics_events (event_id, organizer_id, currency, timezone)
SELECT l.event_id, e.organizer_id, coalesce(e.currency, l.currency), known_zone(coalesce(v.timezone, 'UTC'))
FROM (SELECT DISTINCT ON (event_id) event_id, currency FROM booking_log
      WHERE id > $1 AND id <= $2 ORDER BY event_id, id) l
LEFT JOIN events e ON e.id = l.event_id
LEFT JOIN venues v ON v.id = e.venue_id
WHERE NOT EXISTS (SELECT FROM analytics_events a WHERE a.event_id = l.event_id)
