WITH claimed AS (
    UPDATE waitlist_offers o
    SET status = 'claimed', hold_id = $2, claimed_at = now(),
        hold_expires_at = now() + e.hold_ttl_secs * interval '1 second'
    FROM events e
    WHERE o.id = $1 AND o.status = 'open' AND o.expires_at > now() AND e.id = o.event_id AND e.status = 'published'
    RETURNING o.entry_id, o.hold_id, o.claimed_at, o.hold_expires_at
), entry AS (
    UPDATE waitlist_entries w SET status = 'claimed', changed_at = now()
    FROM claimed WHERE w.id = claimed.entry_id
)
SELECT hold_id, claimed_at, hold_expires_at FROM claimed
