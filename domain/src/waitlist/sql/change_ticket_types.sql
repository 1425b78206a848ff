-- The guard is the last word on what is reserved.
UPDATE ticket_types t
SET reserved = t.reserved + d.reserved, waiting_entries = t.waiting_entries + d.entries,
    waiting_tickets = t.waiting_tickets + d.tickets, inventory_version = t.inventory_version + 1, updated_at = now()
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS d (id, reserved, entries, tickets)
WHERE t.id = d.id AND (d.reserved <= 0 OR t.sold + t.reserved + d.reserved <= t.capacity)
RETURNING t.id, t.event_id, t.capacity, t.sold, t.reserved, t.price, t.inventory_version, t.waiting_tickets,
          t.deleted_at IS NOT NULL AS withdrawn
