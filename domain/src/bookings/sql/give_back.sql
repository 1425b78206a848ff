UPDATE ticket_types t
SET sold = t.sold - s.quantity, inventory_version = t.inventory_version + 1, updated_at = now()
FROM unnest($1::uuid[], $2::int[]) AS s (id, quantity)
WHERE t.id = s.id
RETURNING t.id, t.event_id, t.capacity, t.sold, t.reserved, t.price, t.inventory_version, t.waiting_tickets,
          t.deleted_at IS NOT NULL AS withdrawn
