INSERT INTO analytics_events (event_id, organizer_id, currency, timezone)
SELECT e.id, e.organizer_id, e.currency, known_zone(v.timezone)
FROM events e JOIN venues v ON v.id = e.venue_id
WHERE e.id IN (SELECT event_id FROM ({holds}) h)
  AND NOT EXISTS (SELECT FROM analytics_events a WHERE a.event_id = e.id)
