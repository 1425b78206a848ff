days AS (
    INSERT INTO analytics_days AS t (event_id, day, {names})
    SELECT event_id, day, {names} FROM counted
    ON CONFLICT (event_id, day) DO UPDATE SET {added}
), months AS (
    INSERT INTO analytics_months AS t (event_id, day, {names})
    SELECT c.event_id, date_trunc('month', c.day)::date, {sums} FROM counted c GROUP BY 1, 2
    ON CONFLICT (event_id, day) DO UPDATE SET {added}
), totals AS (
    INSERT INTO analytics_totals AS t (organizer_id, day, currency, {names})
    SELECT o.id, c.day, c.currency, {sums}
    FROM counted c, LATERAL (VALUES ({everybody}), (c.organizer_id)) o (id) WHERE o.id IS NOT NULL
    GROUP BY 1, 2, 3
    ON CONFLICT (organizer_id, day, currency) DO UPDATE SET {added}
)
