-- Of each quantity that fits into $3 seats, the first entries in line. Who may not have so many tickets any more is
-- passed over.
SELECT h.id, h.user_id, u.email, h.quantity, row_number() OVER (ORDER BY h.place) AS nth
FROM generate_series(1, $3) AS q (quantity)
CROSS JOIN LATERAL (
    SELECT w.id, w.user_id, w.quantity, w.place
    FROM waitlist_entries w
    WHERE w.ticket_type_id = $2 AND w.status = 'waiting' AND w.quantity = q.quantity
      AND NOT EXISTS (SELECT FROM event_buyers b JOIN events e ON e.id = b.event_id
                      WHERE b.event_id = $1 AND b.user_id = w.user_id
                        AND b.sold + w.quantity > e.max_tickets_per_user)
    ORDER BY w.place
    LIMIT $3 / q.quantity
) h
JOIN users u ON u.id = h.user_id
