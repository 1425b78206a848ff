INSERT INTO payments (id, booking_id, event_id, user_id, attempt, provider, provider_key, token, status, amount,
                      currency)
SELECT id, booking_id, event_id, user_id, attempt, provider, provider_key, token, 'unknown', amount, currency
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::text[], $8::text[],
            $9::bigint[], $10::text[])
     AS a (id, booking_id, event_id, user_id, attempt, provider, provider_key, token, amount, currency)
ON CONFLICT DO NOTHING
RETURNING id, booking_id, event_id, attempt, provider, provider_key, token, amount, currency, status, reference, failure,
          action, action_until, coalesce(action_until <= now(), false) AS action_over
