-- The entries are waiting: their ticket type is locked. By key alone: see `PLAN_ONCE`.
WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS m (id, entry_id, token_hash)
), offered AS (
    UPDATE waitlist_entries w SET status = 'offered', changed_at = now()
    FROM made WHERE w.id = made.entry_id AND w.status || '' = 'waiting'
    RETURNING w.id, w.event_id, w.ticket_type_id, w.user_id, w.quantity
)
INSERT INTO waitlist_offers (id, entry_id, event_id, ticket_type_id, user_id, quantity, unit_price, currency,
                             token_hash, expires_at)
SELECT made.id, o.id, o.event_id, o.ticket_type_id, o.user_id, o.quantity, $4, $5, made.token_hash, $6
FROM offered o JOIN made ON made.entry_id = o.id
