SELECT w.id, w.user_id, u.email, w.quantity, 1::bigint AS nth
FROM waitlist_entries w JOIN users u ON u.id = w.user_id
WHERE w.id = $1 AND w.ticket_type_id = $2 AND w.status = 'waiting'
