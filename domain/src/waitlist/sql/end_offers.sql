-- Ends offers that are still as they were, and their entries with them where $4 says how.
WITH ended AS (
    UPDATE waitlist_offers o SET status = $3, ended_at = now()
    WHERE o.id = ANY($1) AND o.status = $2
    RETURNING o.id, o.entry_id, o.event_id, o.ticket_type_id, o.user_id, o.quantity
), entries AS (
    UPDATE waitlist_entries w SET status = $4, changed_at = now()
    FROM ended WHERE w.id = ended.entry_id AND $4 <> ''
)
SELECT e.id, e.event_id, e.ticket_type_id, e.user_id, u.email, e.quantity, now() AS now
FROM ended e JOIN users u ON u.id = e.user_id
