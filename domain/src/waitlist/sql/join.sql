-- Takes places at the end of each line, in the order of the request, for those who have none; then says where each
-- stands. The ticket types are locked, so nobody else joins, leaves or is offered anything meanwhile.
WITH asked AS (
    SELECT DISTINCT ON (a.ticket_type_id, a.user_id) a.*
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[])
         WITH ORDINALITY AS a (id, event_id, ticket_type_id, user_id, quantity, n)
    JOIN events e ON e.id = a.event_id AND e.status = 'published' AND now() < e.sales_end_at
    -- Looked up for each, which no plan turns into reading everybody who waits.
    WHERE (SELECT w.id FROM waitlist_entries w WHERE w.ticket_type_id = a.ticket_type_id
           AND w.user_id = a.user_id AND w.status IN ('waiting', 'offered')) IS NULL
    ORDER BY a.ticket_type_id, a.user_id, a.n
), ordered AS (
    SELECT a.*, row_number() OVER (PARTITION BY a.ticket_type_id ORDER BY a.n) AS nth FROM asked a
), inserted AS (
    INSERT INTO waitlist_entries (id, event_id, ticket_type_id, user_id, quantity, place)
    SELECT o.id, o.event_id, o.ticket_type_id, o.user_id, o.quantity, t.last_place + o.nth
    FROM ordered o JOIN ticket_types t ON t.id = o.ticket_type_id AND t.event_id = o.event_id
    RETURNING id, ticket_type_id, quantity
), raised AS (
    UPDATE ticket_types t
    SET last_place = t.last_place + i.entries, waiting_entries = t.waiting_entries + i.entries,
        waiting_tickets = t.waiting_tickets + i.tickets, inventory_version = t.inventory_version + 1,
        updated_at = now()
    FROM (SELECT ticket_type_id, count(*)::int AS entries, sum(quantity)::int AS tickets
          FROM inserted GROUP BY 1) i
    WHERE t.id = i.ticket_type_id
    RETURNING t.id, t.waiting_entries - i.entries AS before
)
SELECT i.id, r.before + o.nth AS position, now() AS joined_at
FROM inserted i JOIN ordered o ON o.id = i.id JOIN raised r ON r.id = i.ticket_type_id
