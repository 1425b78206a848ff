-- Two years up to now, row after row; an event sells for the sixth part of that before it takes place.
INSERT INTO booking_log (at, event_id, booking_id, user_id, kind, quantity, amount, currency, items)
SELECT now() - interval '730 days' * (1 - n::float8 / $4),
       md5('evently-generated-' || least($1, 1 + floor($1 * (n::float8 / $4 + random() / 6))::int))::uuid,
       gen_random_uuid(), md5('evently-buyer-' || n % 100000)::uuid, kind, quantity,
       CASE kind WHEN 'cancelled' THEN 3000 WHEN 'refunded' THEN 3000 ELSE 4500 END * quantity, 'EUR', '[]'
FROM generate_series($2, $2 + $3 - 1) n,
     LATERAL (SELECT 1 + n % 4 AS quantity,
                     (ARRAY['confirmed', 'confirmed', 'confirmed', 'confirmed', 'confirmed', 'confirmed', 'confirmed',
                            'failed', 'cancelled', 'refunded'])[1 + n % 10] AS kind) r
