INSERT INTO hold_counts AS h (event_id, at, epoch, holds)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[]) AS g (event_id, at, epoch, holds)
ON CONFLICT (event_id, at, epoch) DO UPDATE SET holds = excluded.holds WHERE h.holds < excluded.holds
