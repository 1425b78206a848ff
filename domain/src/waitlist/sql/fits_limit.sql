SELECT coalesce((SELECT b.sold FROM event_buyers b WHERE b.event_id = o.event_id AND b.user_id = o.user_id), 0)
       + o.quantity <= e.max_tickets_per_user AS fits
FROM waitlist_offers o JOIN events e ON e.id = o.event_id
WHERE o.id = $1
