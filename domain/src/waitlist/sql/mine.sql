SELECT DISTINCT ON (w.ticket_type_id) w.id, w.event_id, w.ticket_type_id, w.status, w.quantity, w.joined_at,
       CASE WHEN w.status = 'waiting' THEN
           1 + (SELECT count(*) FROM waitlist_entries before WHERE before.ticket_type_id = w.ticket_type_id
                AND before.status = 'waiting' AND before.place < w.place) END AS position,
       o.id AS offer_id, o.unit_price, o.currency, o.expires_at, o.hold_id
FROM waitlist_entries w
LEFT JOIN LATERAL (
    SELECT * FROM waitlist_offers o WHERE o.entry_id = w.id ORDER BY o.id DESC LIMIT 1
) o ON true
WHERE w.user_id = $1 AND w.event_id = $2
ORDER BY w.ticket_type_id, w.id DESC
