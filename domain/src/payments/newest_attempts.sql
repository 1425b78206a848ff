SELECT DISTINCT ON (booking_id)
       id, booking_id, attempt, provider, provider_key, token, amount, currency, status, reference, failure
FROM payments
WHERE booking_id = ANY($1)
ORDER BY booking_id, attempt DESC
