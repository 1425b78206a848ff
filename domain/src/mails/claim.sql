-- Takes the send lease on those of these mails that are pending and not leased, and fixes at the first attempt
-- what they say. One statement: whoever gets the lease gets the content that every later attempt gets.
-- By key alone: see `PLAN_ONCE`.
--
-- $1 uuid[]  mails
-- $2 text[]  the traceparent of each of them, '' where there is none
-- $3 text    From
-- $4 text    base of links
-- $5 float8  the lease, in seconds
WITH asked AS (
    SELECT * FROM unnest($1, $2) AS asked (id, traceparent)
), free AS MATERIALIZED (
    SELECT mails.id, asked.traceparent
    FROM mails JOIN asked ON asked.id = mails.id
    WHERE mails.status || '' = 'pending' AND (mails.lease_until IS NULL OR mails.lease_until <= now())
    ORDER BY mails.id
    FOR UPDATE OF mails SKIP LOCKED
)
UPDATE mails
SET lease_until = now() + $5 * interval '1 second',
    attempts = mails.attempts + 1,
    data = CASE WHEN mails.data ? 'snapshot' THEN mails.data ELSE mails.data || jsonb_build_object('snapshot',
        jsonb_build_object(
            'sender', $3,
            'base_url', $4,
            'traceparent', nullif(free.traceparent, ''),
            'name', (SELECT users.name FROM users WHERE users.id = mails.user_id),
            'booking', (
                SELECT jsonb_build_object(
                    'id', b.id,
                    'reference', b.reference,
                    'total', b.total,
                    'currency', b.currency,
                    'confirmed_at', b.confirmed_at,
                    'cancelled_at', b.cancelled_at,
                    'event', jsonb_build_object('id', e.id, 'title', e.title, 'starts_at', e.starts_at, 'ends_at', e.ends_at),
                    'venue', jsonb_build_object('name', v.name, 'address', v.address, 'city', v.city,
                        'country', v.country, 'timezone', v.timezone),
                    'refund', (SELECT r.amount FROM refunds r WHERE r.booking_id = b.id),
                    'items', (
                        SELECT coalesce(jsonb_agg(jsonb_build_object(
                            'name', tt.name,
                            'quantity', item.value -> 'quantity',
                            'unit_price', CASE jsonb_typeof(item.value -> 'unit_price')
                                WHEN 'object' THEN item.value -> 'unit_price' -> 'amount'
                                ELSE item.value -> 'unit_price' END) ORDER BY item.ordinality), '[]')
                        FROM jsonb_array_elements(b.items) WITH ORDINALITY AS item
                        JOIN ticket_types tt ON tt.id = (item.value ->> 'ticket_type_id')::uuid),
                    'tickets', (
                        SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'code', t.code, 'seat', t.seat,
                            'ticket_type', tt.name) ORDER BY tt.position, t.seat, t.id), '[]')
                        FROM tickets t JOIN ticket_types tt ON tt.id = t.ticket_type_id
                        WHERE t.booking_id = b.id))
                FROM bookings b
                JOIN events e ON e.id = b.event_id
                JOIN venues v ON v.id = e.venue_id
                WHERE b.id = (mails.data ->> 'booking_id')::uuid),
            'wait', (
                SELECT jsonb_build_object(
                    'entry_id', w.id,
                    'ticket_type', tt.name,
                    'quantity', w.quantity,
                    'event', jsonb_build_object('id', e.id, 'title', e.title, 'starts_at', e.starts_at, 'ends_at', e.ends_at),
                    'venue', jsonb_build_object('name', v.name, 'address', v.address, 'city', v.city,
                        'country', v.country, 'timezone', v.timezone),
                    'unit_price', o.unit_price,
                    'currency', e.currency,
                    'offered_at', o.created_at,
                    'expires_at', o.expires_at)
                FROM (SELECT (mails.data ->> 'offer_id')::uuid AS offer_id,
                             (mails.data ->> 'entry_id')::uuid AS entry_id) about
                LEFT JOIN waitlist_offers o ON o.id = about.offer_id
                JOIN waitlist_entries w ON w.id = coalesce(o.entry_id, about.entry_id)
                JOIN ticket_types tt ON tt.id = w.ticket_type_id
                JOIN events e ON e.id = w.event_id
                JOIN venues v ON v.id = e.venue_id))) END
FROM free
WHERE mails.id = free.id
RETURNING mails.id, mails.recipient, mails.data, mails.attempts, mails.created_at, mails.deadline,
    coalesce(mails.deadline < now(), false) AS too_late
