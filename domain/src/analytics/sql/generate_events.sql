INSERT INTO events (id, slug, organizer_id, venue_id, title, description, category, starts_at, ends_at, sales_start_at,
                    sales_end_at, status, currency, max_tickets_per_user, hold_ttl_secs, offer_ttl_secs, refund_policy)
SELECT md5('evently-generated-' || n)::uuid, 'generated-' || n, $1, $2, 'Generated ' || n, '', 'generated',
       at, at + interval '3 hours', at - interval '120 days', at, 'completed', 'EUR', 10, 300, 1800, '[]'
FROM generate_series(1, $3) n, LATERAL (SELECT now() - interval '730 days' * (1 - n::float8 / $3) - interval '1 day' AS at) t
ON CONFLICT DO NOTHING
