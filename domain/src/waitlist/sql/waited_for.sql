SELECT * FROM (
    SELECT t.event_id, t.id AS ticket_type_id,
           (SELECT w.quantity FROM waitlist_entries w WHERE w.ticket_type_id = t.id AND w.status = 'waiting'
            ORDER BY w.quantity LIMIT 1) AS smallest,
           (SELECT w.quantity FROM waitlist_entries w WHERE w.ticket_type_id = t.id AND w.status = 'waiting'
            ORDER BY w.quantity DESC LIMIT 1) AS largest
    FROM ticket_types t JOIN events e ON e.id = t.event_id
    WHERE t.waiting_entries > 0 AND t.deleted_at IS NULL AND ($1::uuid IS NULL OR t.event_id = $1)
      AND e.status = 'published' AND now() < least(e.sales_end_at, e.starts_at)
) AS line
WHERE smallest IS NOT NULL
ORDER BY event_id, ticket_type_id
LIMIT $2
