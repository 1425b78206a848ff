-- Every ticket type of the bookings' events, so that none of their seats is left out.
SELECT id, event_id, capacity, sold, reserved, price, inventory_version, waiting_tickets, deleted_at IS NOT NULL AS withdrawn
FROM ticket_types
WHERE event_id IN (SELECT event_id FROM bookings WHERE id = ANY($1))
ORDER BY id
