-- What Postgres knows already of each order: its buyer's address, and the booking if one was decided before.
SELECT o.booking_id, u.email, b.status, b.attempt
FROM unnest($1::uuid[], $2::uuid[]) AS o (booking_id, user_id)
LEFT JOIN users u ON u.id = o.user_id
LEFT JOIN bookings b ON b.id = o.booking_id
