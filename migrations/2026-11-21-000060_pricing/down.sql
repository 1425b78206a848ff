DROP INDEX booking_log_event_at;
DROP TABLE price_history;
DROP TABLE price_evaluations;
DROP SEQUENCE price_steps;
DROP TABLE pricing_rules;
