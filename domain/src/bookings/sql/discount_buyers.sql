UPDATE event_buyers b
SET sold = b.sold - d.quantity, version = b.version + 1
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS d (event_id, user_id, quantity)
WHERE b.event_id = d.event_id AND b.user_id = d.user_id
RETURNING b.event_id, b.user_id, b.sold, b.version
