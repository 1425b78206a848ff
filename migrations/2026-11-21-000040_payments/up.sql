-- An authorisation that waits for the customer: what is to be done, and until when the seats wait for it. `hold` is
-- what was quoted, so that money that comes after the hold was lost can still find its seats.
ALTER TABLE payments
    ADD COLUMN action       jsonb,
    ADD COLUMN action_until timestamptz,
    ADD COLUMN hold         jsonb,
    ADD CHECK ((action IS NULL) = (action_until IS NULL) AND (action IS NULL) = (hold IS NULL));

-- What providers told us, each once: they repeat themselves until they are heard.
CREATE TABLE provider_events (
    provider    text NOT NULL,
    event_id    text NOT NULL,
    kind        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, event_id)
);
CREATE INDEX provider_events_age ON provider_events (received_at);

-- How often the sandbox has misbehaved for a charge already, as its token asked.
CREATE TABLE sandbox_faults (
    provider_key text NOT NULL,
    operation    text NOT NULL,
    times        integer NOT NULL DEFAULT 1,
    PRIMARY KEY (provider_key, operation)
);

-- Where a provider's books and ours differ, as the last reconciliation saw it.
CREATE TABLE payment_differences (
    provider     text NOT NULL,
    provider_key text NOT NULL,
    kind         text NOT NULL,
    booking_id   uuid,
    reference    text,
    detail       text NOT NULL,
    found_at     timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, provider_key)
);
CREATE INDEX refunds_failed ON refunds (created_at) WHERE status = 'failed';
CREATE INDEX refunds_payment ON refunds (payment_id);
