-- $1 and $2 are the events' own.
INSERT INTO ticket_types (id, event_id, name, position, capacity, sold, base_price, price)
SELECT e.id, e.id, 'Entry', 0, 50000, 50000 * (n % 11) / 10, 4500, 4500
FROM generate_series(1, $3) n JOIN events e ON e.id = md5('evently-generated-' || n)::uuid
WHERE $1::uuid IS NOT NULL AND $2::uuid IS NOT NULL
ON CONFLICT DO NOTHING
