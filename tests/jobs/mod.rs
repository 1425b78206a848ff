//! Jobs: the queue they travel in, the runtime that runs them, what each does, what it sends.

mod cancel;
mod confirm;
mod figures;
mod mail_captured;
mod mail_contents;
mod mail_sending;
mod payloads;
mod payments;
mod pricing;
mod pricing_replayed;
mod probe;
mod queue;
mod queue_defects;
mod queue_faults;
mod queue_periodic;
mod queue_workers;
mod relay;
mod shop;
mod sweeps;
mod waitlist;
