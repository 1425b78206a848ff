-- Of each quantity that fits into $3 seats, the first entries in line. Who may not have so many tickets any more is
-- passed over.
--
-- One quantity is asked for as a range, so that only the index by quantity has its line in order. Asked for as equal, the
-- index of the whole line has it as well, and is read to its end for a quantity that nobody waits for.
SELECT h.id, h.user_id, u.email, h.quantity, row_number() OVER (ORDER BY h.place) AS nth
FROM generate_series(1, $3) AS q (quantity)
CROSS JOIN LATERAL (
    SELECT w.id, w.user_id, w.quantity, w.place
    FROM waitlist_entries w
    WHERE w.ticket_type_id = $2 AND w.status = 'waiting'
      AND w.quantity >= q.quantity AND w.quantity <= q.quantity
      AND coalesce((SELECT b.sold FROM event_buyers b WHERE b.event_id = $1 AND b.user_id = w.user_id), 0)
          + w.quantity <= (SELECT e.max_tickets_per_user FROM events e WHERE e.id = $1)
    ORDER BY w.quantity, w.place
    LIMIT $3 / q.quantity
) h
JOIN users u ON u.id = h.user_id
