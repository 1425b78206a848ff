INSERT INTO booking_log (event_id, booking_id, user_id, kind, quantity, amount, currency, items)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::bigint[], $7::text[], $8::jsonb[])
