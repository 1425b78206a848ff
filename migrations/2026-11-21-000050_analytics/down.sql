CREATE INDEX booking_log_recent ON booking_log (at, event_id) WHERE kind IN ('confirmed', 'cancelled');
DROP INDEX booking_log_event;
DROP VIEW booking_log_counts;
DROP FUNCTION known_zone;
DROP TABLE analytics_system_days, analytics_days, analytics_events, analytics_offset;
