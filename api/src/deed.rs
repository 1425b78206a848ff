//! What every write of an operator has in common: who, why, and how it may fail.

use domain::operations::Operator;
use garde::Validate;
use queue::{OperateError, Operations};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    App,
    caller::Caller,
    error::{ApiError, Code},
};

/// Why it is done; the body may be left out.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For the audit log.
    #[garde(inner(length(chars, min = 1, max = 500)))]
    #[schema(min_length = 1, max_length = 500, example = "the mail server is being moved")]
    pub reason: Option<String>,
}

/// The caller, as the audit log knows them.
pub fn operator(caller: &Caller, reason: Option<String>) -> Operator {
    Operator { id: Some(caller.id()), by: None, reason }
}

pub fn operations(app: &App) -> Operations {
    Operations { queue: app.queue.clone(), db: app.db.clone() }
}

impl From<OperateError> for ApiError {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::Unknown => Self::not_found(),
            OperateError::Running => {
                Self::new(Code::InvalidState, "The job runs at this moment. Try again when it does not.")
            }
            OperateError::AlreadyDue => {
                Self::new(Code::InvalidState, "The job runs, or waits to run, already.")
            }
            OperateError::Fault(fault) => fault.into(),
        }
    }
}
