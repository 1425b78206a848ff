DROP INDEX refunds_payment;
DROP INDEX refunds_failed;
DROP TABLE payment_differences;
DROP TABLE sandbox_faults;
DROP TABLE provider_events;
ALTER TABLE payments DROP COLUMN action, DROP COLUMN action_until, DROP COLUMN hold;
