-- Against being cancelled meanwhile.
SELECT status = 'published' AND now() < least(sales_end_at, starts_at) AS open, currency,
       least(now() + offer_ttl_secs * interval '1 second', sales_end_at, starts_at) AS expires_at
FROM events
WHERE id = $1
FOR SHARE
