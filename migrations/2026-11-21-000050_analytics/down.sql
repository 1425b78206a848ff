CREATE INDEX booking_log_recent ON booking_log (at, event_id) WHERE kind IN ('confirmed', 'cancelled');
DROP INDEX booking_log_event;
DROP VIEW booking_log_figures, hold_count_figures;
DROP FUNCTION known_zone;
DROP TABLE analytics_totals, analytics_months, analytics_days, analytics_events, hold_counts, analytics_offset;
