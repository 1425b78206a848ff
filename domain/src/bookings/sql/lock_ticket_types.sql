-- In the order of their ids, so that two batches never wait for each other in a circle. What is read is read
-- under the lock. NO KEY: foreign keys that point here need not wait.
SELECT id, event_id, capacity, sold, reserved, price, inventory_version, waiting_tickets, deleted_at IS NOT NULL AS withdrawn
FROM ticket_types
WHERE id = ANY($1)
ORDER BY id
FOR NO KEY UPDATE
