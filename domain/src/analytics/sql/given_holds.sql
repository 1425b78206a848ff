-- By how much counts of holds are higher than those that are counted already.
SELECT g.event_id, g.at, g.holds - coalesce(h.holds, 0) AS holds
FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[]) AS g (event_id, at, epoch, holds)
LEFT JOIN hold_counts h ON h.event_id = g.event_id AND h.at = g.at AND h.epoch = g.epoch
WHERE g.holds > coalesce(h.holds, 0)
