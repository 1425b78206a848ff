INSERT INTO event_buyers (event_id, user_id, sold)
SELECT event_id, user_id, quantity
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS b (event_id, user_id, quantity)
ORDER BY event_id, user_id
ON CONFLICT (event_id, user_id) DO UPDATE
SET sold = event_buyers.sold + excluded.sold, version = event_buyers.version + 1
RETURNING event_id, user_id, sold, version
