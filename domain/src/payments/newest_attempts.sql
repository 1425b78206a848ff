SELECT DISTINCT ON (booking_id)
       id, booking_id, event_id, attempt, provider, provider_key, token, amount, currency, status, reference, failure,
       action, action_until, coalesce(action_until <= now(), false) AS action_over
FROM payments
WHERE booking_id = ANY($1)
ORDER BY booking_id, attempt DESC
