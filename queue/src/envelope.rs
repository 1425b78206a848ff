//! What travels: a payload, the name of its job, and the trace that caused it.

use domain::{
    jobs::{Job, Pool},
    trace::TraceContext,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A job on its way. Its JSON is part of the wire format between versions that run side by side; `pool` and
/// `id` are not in it, they are where it is found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(skip, default = "nowhere")]
    pub pool: Pool,
    /// `NAME:key`; see [`job_id`].
    #[serde(skip)]
    pub id: String,
    /// The version of this format.
    pub v: u8,
    pub job: String,
    pub payload: Box<RawValue>,
    /// The trace that the job belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The outbox row that goes when the job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox_id: Option<Uuid>,
}

/// The format that this version writes and reads.
pub(crate) const VERSION: u8 = 1;

fn nowhere() -> Pool {
    Pool::Upkeep
}

/// The id under which a job is enqueued.
pub fn job_id(name: &str, key: &str) -> String {
    format!("{name}:{key}")
}

impl Envelope {
    /// A job in the current trace.
    pub fn new<J: Job>(job: &J) -> Result<Self, serde_json::Error> {
        Ok(Self {
            pool: J::POOL,
            id: job_id(J::NAME, &job.key()),
            v: VERSION,
            job: J::NAME.to_owned(),
            payload: serde_json::value::to_raw_value(job)?,
            traceparent: TraceContext::current().map(|context| context.to_string()),
            outbox_id: None,
        })
    }

    /// A job out of the outbox: `key` is the row's `job_key`.
    pub fn from_outbox(
        outbox_id: Uuid,
        pool: Pool,
        job: &str,
        key: &str,
        payload: &serde_json::Value,
        traceparent: Option<String>,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            pool,
            id: job_id(job, key),
            v: VERSION,
            job: job.to_owned(),
            payload: serde_json::value::to_raw_value(payload)?,
            traceparent,
            outbox_id: Some(outbox_id),
        })
    }

    pub(crate) fn decode(pool: Pool, id: String, json: &[u8]) -> Result<Self, serde_json::Error> {
        let envelope: Self = serde_json::from_slice(json)?;
        if envelope.v > VERSION {
            return Err(serde::de::Error::custom(format_args!(
                "format {} is newer than {VERSION}",
                envelope.v
            )));
        }
        Ok(Self { pool, id, ..envelope })
    }
}
