-- A booking that failed (a declined payment) may be confirmed by a later attempt; any other stays as it is.
INSERT INTO bookings AS b (id, reference, event_id, user_id, status, failure, items, quantity, total, currency,
                           attempt, created_at, confirmed_at)
SELECT id, reference, event_id, user_id, CASE WHEN failure IS NULL THEN 'confirmed' ELSE 'failed' END, failure,
       items, quantity, total, currency, attempt, created_at, CASE WHEN failure IS NULL THEN now() END
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[], $7::int[], $8::bigint[],
            $9::text[], $10::int[], $11::timestamptz[])
     AS o (id, reference, event_id, user_id, failure, items, quantity, total, currency, attempt, created_at)
ON CONFLICT (id) DO UPDATE
SET status = excluded.status, failure = excluded.failure, attempt = excluded.attempt,
    confirmed_at = excluded.confirmed_at, updated_at = now()
WHERE b.status = 'failed'
RETURNING id, reference, created_at, confirmed_at
