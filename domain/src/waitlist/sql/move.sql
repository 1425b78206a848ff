-- Between the entry that will be before it and the one after. Half of a sum is exact in numeric; last_place bounds
-- every place from above.
WITH others AS (
    SELECT place, row_number() OVER (ORDER BY place) AS nth
    FROM waitlist_entries
    WHERE ticket_type_id = $2 AND status = 'waiting' AND id <> $1
    ORDER BY place
    LIMIT $3
), last AS (
    UPDATE ticket_types SET last_place = last_place + 1, updated_at = now() WHERE id = $2 RETURNING last_place
)
UPDATE waitlist_entries w
SET place = CASE
        WHEN (SELECT count(*) FROM others) < $3 THEN (SELECT last_place FROM last)
        WHEN $3 = 1 THEN (SELECT place FROM others WHERE nth = 1) - 1
        ELSE ((SELECT place FROM others WHERE nth = $3 - 1) + (SELECT place FROM others WHERE nth = $3)) * 0.5
    END,
    changed_at = now()
WHERE w.id = $1 AND w.status = 'waiting'
