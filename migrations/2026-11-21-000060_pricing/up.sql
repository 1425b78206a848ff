-- The rules by which an event's prices move, what each evaluation of them saw, and every change of a price.

CREATE TABLE pricing_rules (
    event_id      uuid PRIMARY KEY REFERENCES events ON DELETE CASCADE,
    enabled       boolean NOT NULL,
    every_minutes integer NOT NULL CHECK (every_minutes > 0),
    -- All of it, as the organizer wrote it.
    rules         jsonb NOT NULL,
    -- The object's ETag.
    version       bigint NOT NULL DEFAULT 1,
    -- When prices are evaluated next, in whole seconds. Null while the rules are off, before the event is published, and
    -- once it is not on sale any more.
    next_due_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (enabled OR next_due_at IS NULL)
);
CREATE INDEX pricing_rules_due ON pricing_rules (next_due_at, event_id) WHERE next_due_at IS NOT NULL;

-- Numbers evaluations and changes of prices together. Both are written under the lock of their event, so that among those
-- of one event the numbers are the order in which they happened.
CREATE SEQUENCE price_steps;

-- One row an evaluation, whether it changed a price or not: what was seen, so that it can be replayed under other rules.
CREATE TABLE price_evaluations (
    step          bigint PRIMARY KEY DEFAULT nextval('price_steps'),
    event_id      uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    due_at        timestamptz NOT NULL,
    evaluated_at  timestamptz NOT NULL,
    rules_version bigint NOT NULL,
    -- The entries of the booking log up to this one were counted, and no later ones.
    log_position  bigint NOT NULL,
    seen          jsonb NOT NULL,
    changes       integer NOT NULL,
    -- The event's version afterwards.
    event_version bigint NOT NULL
);
-- Each due time once, however often its job runs.
CREATE UNIQUE INDEX price_evaluations_due ON price_evaluations (event_id, due_at);
CREATE INDEX price_evaluations_event ON price_evaluations (event_id, step);
CREATE INDEX price_evaluations_age ON price_evaluations (evaluated_at);

CREATE TABLE price_history (
    id              uuid PRIMARY KEY,
    step            bigint NOT NULL UNIQUE DEFAULT nextval('price_steps'),
    at              timestamptz NOT NULL,
    event_id        uuid NOT NULL,
    ticket_type_id  uuid NOT NULL,
    cause           text NOT NULL CHECK (cause IN ('rules', 'manual')),
    old_price       bigint NOT NULL,
    new_price       bigint NOT NULL,
    old_base_price  bigint NOT NULL,
    new_base_price  bigint NOT NULL,
    currency        text NOT NULL,
    -- Null: the rules.
    actor_id        uuid,
    -- Of the rules: what was seen, and what each of them made of it.
    reason          jsonb,
    CHECK ((cause = 'rules') = (reason IS NOT NULL))
);
CREATE INDEX price_history_event ON price_history (event_id, step);
CREATE INDEX price_history_ticket_type ON price_history (ticket_type_id, step);
CREATE TRIGGER price_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What an event sold within a time.
CREATE INDEX booking_log_event_at ON booking_log (event_id, at) WHERE kind IN ('confirmed', 'cancelled');
