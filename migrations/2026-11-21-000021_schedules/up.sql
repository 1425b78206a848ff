-- What workers do over and over: when each last ran and how it ended. Written by whoever ran it, so that all processes
-- of a pool together keep to one rhythm, and operators see it.
CREATE TABLE schedules (
    name            text PRIMARY KEY,
    pool            text NOT NULL,
    every_ms        bigint NOT NULL,
    -- Whether one process at a time runs it.
    exclusive       boolean NOT NULL,
    last_started_at timestamptz,
    last_ended_at   timestamptz,
    -- done, failed, timeout or panicked.
    outcome         text,
    error           text,
    found           bigint NOT NULL DEFAULT 0,
    fixed           bigint NOT NULL DEFAULT 0,
    -- Which process ran it.
    process         text,
    -- When an operator asked for it to run at once; null when that was done.
    wanted_at       timestamptz,
    -- When a live process last said that it runs it.
    seen_at         timestamptz NOT NULL DEFAULT now()
);
