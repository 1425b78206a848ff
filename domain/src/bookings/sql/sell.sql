-- The guard is the last word: what does not fit is not returned. Seats of offers stop being reserved as they are sold.
UPDATE ticket_types t
SET sold = t.sold + s.quantity, reserved = t.reserved - s.offered, inventory_version = t.inventory_version + 1, updated_at = now()
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS s (id, quantity, offered)
WHERE t.id = s.id AND t.sold + t.reserved + s.quantity - s.offered <= t.capacity
RETURNING t.id, t.event_id, t.capacity, t.sold, t.reserved, t.price, t.inventory_version, t.waiting_tickets, false AS withdrawn
