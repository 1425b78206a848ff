SELECT w.id, w.event_id, w.ticket_type_id, w.status, w.quantity, w.joined_at, w.user_id, u.email, u.name,
       w.place::text AS place, coalesce(b.sold, 0) AS bought,
       CASE WHEN w.status = 'waiting' THEN
           1 + (SELECT count(*) FROM waitlist_entries before WHERE before.ticket_type_id = w.ticket_type_id
                AND before.status = 'waiting' AND before.place < w.place) END AS position,
       o.id AS offer_id, o.unit_price, o.currency, o.expires_at, o.hold_id
FROM (
    SELECT * FROM waitlist_entries w
    WHERE w.event_id = $1 AND ($2::uuid IS NULL OR w.ticket_type_id = $2)
      AND CASE WHEN $3::text IS NULL THEN w.status IN ('waiting', 'offered') ELSE w.status = $3 END
      AND ($4::uuid IS NULL OR (w.ticket_type_id, w.place, w.id) > ($4, $5::numeric, $6::uuid))
    ORDER BY w.ticket_type_id, w.place, w.id
    LIMIT $7
) w
JOIN users u ON u.id = w.user_id
LEFT JOIN event_buyers b ON b.event_id = w.event_id AND b.user_id = w.user_id
LEFT JOIN LATERAL (
    SELECT * FROM waitlist_offers o WHERE o.entry_id = w.id ORDER BY o.id DESC LIMIT 1
) o ON true
ORDER BY w.ticket_type_id, w.place, w.id
