SELECT o.id, o.event_id, e.title, e.starts_at, o.ticket_type_id, t.name AS ticket_type_name, o.user_id, o.quantity,
       o.unit_price, o.currency, o.status, o.expires_at, o.hold_id, o.claimed_at, o.hold_expires_at,
       o.status = 'open' AND (o.expires_at <= now() OR e.status <> 'published') AS overdue
FROM waitlist_offers o
JOIN events e ON e.id = o.event_id
JOIN ticket_types t ON t.id = o.ticket_type_id
WHERE o.token_hash = $1
