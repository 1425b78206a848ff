-- With the newest attempt to pay, which is the one that counts.
SELECT b.id, b.reference, b.event_id, b.user_id, b.status, b.failure, b.items, b.total, b.currency, b.attempt,
       b.created_at, b.confirmed_at, b.cancelled_at, p.status AS payment_status, p.provider
FROM bookings b
LEFT JOIN LATERAL (
    SELECT status, provider FROM payments WHERE booking_id = b.id ORDER BY attempt DESC LIMIT 1
) p ON true
