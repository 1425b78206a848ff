-- Authorised with its booking, refused by the provider, or to be voided (`unknown` with a failure). A payment
-- that was given up before this transaction locked it stays given up.
-- By key alone: see `PLAN_ONCE`.
UPDATE payments p
SET status = s.status, reference = coalesce(s.reference, p.reference), failure = s.failure, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS s (id, status, reference, failure)
WHERE p.id = s.id AND p.status || '' = 'unknown' AND p.failure IS NULL
RETURNING p.id
