SELECT e.event_id, e.user_id, e.sold, e.version
FROM event_buyers e
WHERE (e.event_id, e.user_id) IN (SELECT event_id, user_id FROM bookings WHERE id = ANY($1))
ORDER BY e.event_id, e.user_id
